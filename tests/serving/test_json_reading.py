"""Bodies in JSON are read the same in pieces as at once, and no further than they may go."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasft.serving import json_reading
from kerasft.serving.json_reading import parse, short
from kerasft.serving.limits import Limits
from kerasft.serving.status import MOST_WORDS, Failure

plain = st.one_of(
    st.none(), st.booleans(), st.integers(-10**12, 10**12), st.floats(allow_nan=False),
    st.text('a"\\[]{},: \né😀', max_size=12),
)  # fmt: skip
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
        st.text('ab"\\]', max_size=3), inner, max_size=4), max_leaves=12,
)  # fmt: skip


CHANGES = [bytes([code]) for code in b' ,]"{\\[}:1']


def outcome(body: bytes) -> str:
    try:
        return repr(parse(body))
    except Failure:
        return "refused"


@given(document=st.dictionaries(st.text("ab", max_size=2), values, max_size=3),
       piece=st.integers(3, 40), spaced=st.booleans(), escaped=st.booleans(),
       at=st.integers(0, 200), change=st.sampled_from([None, b"", *CHANGES]))  # fmt: skip
def test_pieces_give_what_the_whole_gives(document, piece, spaced, escaped, at, change):
    body = json.dumps(document, indent=1 if spaced else None, ensure_ascii=escaped).encode()
    if change is not None:
        body = body[:at] + change + body[at + 1 :]
    whole = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reading, "PIECE", piece)
        assert outcome(body) == whole


@pytest.mark.parametrize("body", [
    b'{"instances":[' + b'"a",' * 999_999 + b'"a"]}',
    b'{"inputs":{"s":[' + b'"a",' * 999_999 + b'"a"]}}',
    b'{"inputs":[' + b"1," * 999_999 + b"1]}",
    b'{"signature_name":"x","examples":[' + b"{}," * 999_999 + b"{}]}",
])  # fmt: skip
def test_rows_are_counted_before_they_are_made(body):
    began = time.monotonic()
    with pytest.raises(Failure, match=r"at least [\d,]+ examples, and .* takes 1,000 at once"):
        parse(body)
    assert time.monotonic() - began < 2


EXAMPLE = [[0.123456789] * 20_000] * 2


@pytest.mark.parametrize("body", [
    {"instances": EXAMPLE}, {"instances": [EXAMPLE] * 2}, {"inputs": EXAMPLE},
    {"instances": [{"x": one} for one in EXAMPLE]}, {"inputs": {"x": EXAMPLE}},
    {"inputs": {"x": EXAMPLE, "y": [EXAMPLE] * 2}}, {"inputs": {"[]": EXAMPLE}},
    {"inputs": [[[0.12345678] * 3] * 224] * 2}, {"inputs": [[[[0.12345678] * 3] * 224] * 224]},
    {"examples": [{"x": one} for one in EXAMPLE]},
    {"examples": [{}] * 2, "context": {"x": EXAMPLE[0]}},
], ids=lambda body: str(body)[:30])  # fmt: skip
def test_a_large_example_is_not_counted_as_many(body):
    body = {"signature_name": "one", **body}
    assert parse(json.dumps(body).encode(), Limits(rows=2)) == body


@pytest.mark.parametrize("inner", [
    b'"' + b"x" * 131_000 + b'"', b",".join([b"1"] * 66_000),
    b"[" + b",".join([b"1"] * 20_000) + b'],"' + b"x" * 131_000 + b'"',
], ids=["text", "numbers", "both"])  # fmt: skip
def test_lists_in_lists_are_looked_through_once(inner):
    one = b"[" * 64 + inner + b"]" * 64
    body = b'{"k": [' + b",".join([one] * 40) + b"]}"
    began = time.monotonic()
    found = parse(body)["k"]
    assert time.monotonic() - began < 4
    assert len(found) == 40
    for _ in range(63):
        found = found[-1]
    assert found[-1] == json.loads(b"[" + inner + b"]")


def test_more_levels_than_an_array_may_have_are_refused_at_once():
    one = b"[" * 250 + b'"' + b"x" * 131_000 + b'"' + b"]" * 250
    for body in (b'{"k": [' + b",".join([one] * 40) + b"]}", b"[" * 200_000,
                 b'{"a":' * 70 + b'"' + b"x" * 200_000):  # fmt: skip
        began = time.monotonic()
        with pytest.raises(Failure, match="in one another, more than 68 levels"):
            parse(body)
        assert time.monotonic() - began < 1


def test_lists_are_counted_before_they_are_made():
    body = b'{"instances":[[' + b"[]," * 5_000_001 + b"[]]]}"
    with pytest.raises(Failure, match="more than 5,000,000 lists and objects"):
        parse(body)


def test_time_runs_while_a_body_is_read():
    body = b'{"instances":[[' + b"1," * 500_000 + b"1]]}"
    assert len(parse(body)["instances"][0]) == 500_001
    with pytest.raises(Failure, match=r"No answer within 0 s") as late:
        parse(body, Limits(seconds=0))
    assert late.value.code == "DEADLINE_EXCEEDED"


def test_a_key_that_comes_twice_is_refused():
    for body in (b'{"instances":[1],"instances":[2]}', b'{"instances":[{"x":1,"x":2}]}'):
        with pytest.raises(Failure, match="comes twice in an object"):
            parse(body)
        with pytest.raises(Failure, match="comes twice in an object"):
            parse(body.replace(b"{", b"{" + b" " * json_reading.PIECE, 1))


def test_other_encodings_are_read_and_halves_of_characters_are_not():
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert parse('{"inputs": "é"}'.encode(encoding)) == {"inputs": "é"}
    with pytest.raises(Failure, match="JSON Parse error"):
        parse(b'{"inputs": "\xed\xa0\x80"}')


def test_messages_quote_the_beginning_alone_and_can_be_written():
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    assert all(len(short(value)) <= 120 for value in ("a" * 10**6, [1] * 10**6, deep))
    words = Failure("INTERNAL", "\ud800" + "a" * 10**6).words
    assert words.startswith("\\ud800a")
    assert len(words.encode()) < MOST_WORDS + 10
