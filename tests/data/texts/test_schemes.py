"""Tags of words and what they mean, whatever the scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.data.texts import schemes
from kerasft.errors import UserError

# A person of two words and another one behind it, a place of one, and one of three.
RUNS = [(0, 1, "PER"), (2, 2, "PER"), (4, 4, "LOC"), (6, 8, "ORG")]
WRITTEN = {
    "iob1": "I-PER I-PER B-PER O I-LOC O I-ORG I-ORG I-ORG",
    "iob2": "B-PER I-PER B-PER O B-LOC O B-ORG I-ORG I-ORG",
    "bioes": "B-PER E-PER S-PER O S-LOC O B-ORG I-ORG E-ORG",
}


@pytest.mark.parametrize("scheme", WRITTEN)
def test_each_scheme_is_told_and_read(scheme):
    tags = WRITTEN[scheme].split()
    assert schemes.told([tags], "data.tag") == scheme
    assert schemes.runs_of(tags, scheme) == (RUNS, [])


def test_other_letters_mean_the_same():
    bilou = WRITTEN["bioes"].replace("E-", "L-").replace("S-", "U-")
    bmewo = WRITTEN["bioes"].replace("I-", "M-").replace("S-", "W-")
    for tags in (bilou.split(), bmewo.split()):
        assert schemes.told([tags], "data.tag") == "bioes"
        assert schemes.runs_of(tags, "bioes") == (RUNS, [])


def test_types_alone():
    tags = ["PER", "PER", "O", "LOC", "ORG", "_"]
    assert schemes.told([tags], "data.tag") == "io"
    assert schemes.runs_of(tags, "io")[0] == [(0, 1, "PER"), (3, 3, "LOC"), (4, 4, "ORG")]


def test_tags_that_fit_none_are_told_and_begin_an_entity():
    assert schemes.runs_of(["O", "I-PER", "B-LOC", "I-ORG"], "iob2") == (
        [(1, 1, "PER"), (2, 2, "LOC"), (3, 3, "ORG")], [1, 3],
    )  # fmt: skip
    # One that is not ended, and one that is not begun.
    assert schemes.runs_of(["B-PER", "O", "E-LOC", "B-ORG"], "bioes") == (
        [(0, 0, "PER"), (2, 2, "LOC"), (3, 3, "ORG")], [0, 2, 3],
    )  # fmt: skip


def test_tags_of_two_kinds_are_refused():
    with pytest.raises(UserError, match=r"data\.tag: some tags say where .* 'PLACE'"):
        schemes.told([["B-PER", "PLACE"]], "data.tag")
    with pytest.raises(UserError, match=r"data\.scheme=iob2 reads tags such as B-x"):
        schemes.runs_of(["PER"], "iob2")
    with pytest.raises(UserError, match=r"one of auto, iob1, .* Received: 'iob3'\. Did you mean"):
        schemes.check_scheme("iob3")


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), max_size=12))
def test_what_is_read_is_what_conlleval_reads(tags):
    runs, _ = schemes.runs_of(tags, "iob2")
    inside = [False] * len(tags)
    for first, last, kind in runs:
        assert {tag[2:] for tag in tags[first : last + 1]} == {kind}
        assert all(tag[0] == "I" for tag in tags[first + 1 : last + 1])
        assert last + 1 == len(tags) or tags[last + 1] != f"I-{kind}"
        inside[first : last + 1] = [True] * (last + 1 - first)
    assert inside == [tag != "O" for tag in tags]


@pytest.mark.parametrize(
    ("tags", "meant"),
    [
        ("b-p i-p o b-p", "B-p I-p O B-p"),
        ("B-p I-p o", "B-p I-p O"),
        ("B I O B", "B-entity I-entity O B-entity"),
        ("b i o", "B-entity I-entity O"),
        ("e-mail o", "e-mail o"),  # types alone
        ("PER O LOC", "PER O LOC"),
    ],
)
def test_tags_are_written_in_capitals_and_with_a_type(tags, meant):
    assert schemes.written_out([tags.split()]) == [meant.split()]


@pytest.mark.parametrize("tags", ["X-p O", "X-p foo O", "X-p B-p"])
def test_unknown_ways_are_refused(tags):
    with pytest.raises(UserError, match=r"data\.tag: .*'X-p'"):
        schemes.told([tags.split()], "data.tag")
