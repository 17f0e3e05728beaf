"""The closing table says where it differs from the lines of the epochs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kerasft.steps.measuring.measure import other_than_shown


@pytest.mark.parametrize(("policy", "now", "said"), [
    ("float32", 0.93502, ""),
    ("float32", 0.9349, "val_accuracy of epoch 9 was 0.9350, and is 0.9349 here: they agree up to "
                        "rounding"),
    ("mixed_bfloat16", 0.93502, "measured in float32, as answers and exports are; the epochs were "
                                "in mixed_bfloat16"),
    ("mixed_bfloat16", 0.93, "measured in float32, as answers and exports are; the epochs were in "
                             "mixed_bfloat16: val_accuracy of epoch 9 was 0.9350, and is 0.9300 "
                             "here"),
])  # fmt: skip
def test_another_figure_is_explained(policy, now, said):
    history = SimpleNamespace(best_epoch=9, kept_value=0.935, soup=None)
    metrics = {"validation": {"accuracy": now}, "test": {}}
    assert other_than_shown(history, "val_accuracy", metrics, policy) == said


def test_a_monitor_that_the_table_has_not_is_not_compared():
    history = SimpleNamespace(best_epoch=9, kept_value=0.935, soup=None)
    assert other_than_shown(history, "val_loss", {"validation": {}}, "float32") == ""
