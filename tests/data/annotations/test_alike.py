import pytest

from kerasft.data.annotations.alike import alike_names, check_alike, number, seen
from kerasft.data.annotations.classes import encode
from kerasft.errors import UserError

SAME = {
    "zero width space": ("pos", "pos\u200b"),
    "zero width joiner": ("pos", "p\u200dos"),
    "soft hyphen": ("pos", "p\u00ados"),
    "no-break space": ("so so", "so\u00a0so"),
    "two blanks": ("so so", "so  so"),
    "tab": ("so so", "so\tso"),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "byte order mark": ("pos", "\ufeffpos"),
    "direction": ("pos", "\u202apos\u202c"),
    "variation": ("\u2764", "\u2764\ufe0f"),
    "nul": ("pos", "pos\0"),
    "filler": ("pos", "pos\u3164"),
    "wide": ("A1", "\uff21\uff11"),
    "ligature": ("fish", "\ufb01sh"),
    "Cyrillic": ("paper", "\u0440\u0430\u0440er"),
    "large Cyrillic": ("Total", "\u0422otal"),
    "Greek": ("No", "N\u03bf"),
    "apostrophe": ("don't", "don\u2019t"),
    "dash": ("a-b", "a\u2013b"),
    "minus": ("-1", "\u22121"),
    "case": ("pos", "POS"),
    "Cyrillic case": ("\u0422\u0435\u0441\u0442", "\u0442\u0435\u0441\u0442"),
    "way of writing": ("1", "1.0"),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=list(SAME))
def test_labels_that_look_the_same_are_refused(pair):
    for kind in ("single", "multi"):
        with pytest.raises(UserError, match="way of writing") as caught:
            encode([*pair, "other"], ["1", "2", "3"], kind=kind, delimiter=None)
        assert "label_names" in str(caught.value)


def test_what_cannot_be_seen_is_shown_by_its_code_point():
    with pytest.raises(UserError, match=r"'caf\\xe9' and 'cafe\\u0301'"):
        check_alike(["caf\u00e9", "cafe\u0301"], "data.label")


@pytest.mark.parametrize(
    "pair",
    [("x2", "x\u00b2"), ("0", "O"), ("a", "\u03b1"), ("A", "\u0391"), ("-", "\u2013"),
     ("10", "1_0"), ("inf", "infinity"), ("nan", "1"), ("a-b", "a_b"), ("\u0995", "\u0996")],
)  # fmt: skip
def test_labels_that_look_different_stay_two(pair):
    assert check_alike(pair, "data.label") == []


def test_a_mark_at_the_end_is_mentioned():
    assert "'pos' and 'pos.'" in check_alike(["neg", "pos", "pos."], "data.label")[0]
    assert check_alike([".", ";"], "data.label") == []


def test_names_that_the_user_lists_are_taken_and_mentioned():
    labels, _, notices = encode(
        ["pos", "pos\u200b"], ["1", "2"], kind="single", names=["pos", "pos\u200b"]
    )
    assert labels.names == ("pos", "pos\u200b")
    assert "\\u200b" in notices[0]
    assert alike_names(["a", "A"]) == []  # a list of letters, in capitals too


def test_numbers_are_what_is_written_with_digits():
    assert [number(word) for word in ("1", " -1.5e3", "nan", "inf", "1_000", "")] == [
        1.0, -1500.0, None, None, None, None,
    ]  # fmt: skip


def test_nothing_is_seen_of_invisible_characters():
    assert seen("\u200b\u00ad\ufeff \u2800") == ""


def test_ways_of_writing_yes_that_are_mixed_are_mentioned():
    said = " ".join(check_alike(["0", "1", "false", "true"], "data.label"))
    assert "'1' and 'true'" in said and "'0' and 'false'" in said
    for found in (["true", "false"], ["1", "0"], ["1", "true", "maybe"]):
        assert not check_alike(found, "data.label")
