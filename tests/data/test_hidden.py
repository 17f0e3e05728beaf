import pytest

from kerasft.data.hidden import shown_splits

ALL = {"train", "test"}


@pytest.mark.parametrize(
    ("train", "test", "kind", "shown"),
    [
        ([0, 1], [-1, -1], "single", {"train"}),
        ([0.5, 1.5], [-1.0, -1.0], "number", {"train"}),
        (["a", "b"], ["", " "], "single", {"train"}),
        (["0", "1"], ["-1", "-1"], "single", {"train"}),
        (["a", "b"], [None, float("nan")], "single", {"train"}),
        (["a", "b"], [None, ""], "multi", ALL),
        ([0, 1], [-1, 1], "single", ALL),
        ([-1, 1], [-1, -1], "single", ALL),
        ([[0, 1], [1, 0]], [[0, 0], [1, 1]], "multi", ALL),
        ([-1, -1], [0, 1], "single", {"test"}),
    ],
)
def test_shown_splits(train, test, kind, shown):
    assert shown_splits(["train", "train", "test", "test"], [*train, *test], kind) == shown
