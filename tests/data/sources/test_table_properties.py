"""Any file at all is read as a table or refused in words, and what was written is what is read."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from kerasft.data.sources.table import table
from kerasft.data.tables.readers import read
from kerasft.data.tables.reading import Layout
from kerasft.errors import UserError

SUFFIXES = ("csv", "tsv", "jsonl", "json")


def of_default(share: float):
    """Return settings with a share of the profile's examples."""
    return settings(
        max_examples=round(settings.default.max_examples * share),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def try_to_read(path, content: bytes, **layout):
    """Read bytes as a table down to the splits; only a message may keep it from that."""
    path.write_bytes(content)
    asked = {"kind": "single", "seed": 0, "text": "text", "label": "label"} | layout
    try:
        splits = table(str(path), **asked)
    except UserError as error:
        assert all(problem.strip() for problem in error.problems)
        event("refused")
        return None
    event("read")
    for part in splits.parts.values():
        assert len(part) > 0
        # What is read can be written again: as UTF-8, into reports and manifests.
        json.dumps([part.inputs, part.ids, splits.labels.names], ensure_ascii=False).encode()
    return splits


ENCODINGS = st.sampled_from(
    ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7", "cp1252", "gb18030", "shift_jis", "hz",
     "iso2022_jp", "punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "hex",
     "rot13", "a\0b", "", "é"]
)


@of_default(2)
@given(st.sampled_from(SUFFIXES), st.binary(max_size=80), st.booleans(), st.booleans(), ENCODINGS)
def test_any_bytes_are_read_or_refused(tmp_path, suffix, content, header, quoting, encoding):
    layout = {"header": header, "quoting": quoting, "encoding": encoding}
    if not header:
        layout |= {"text": 0, "label": 1}
    try_to_read(tmp_path / f"a.{suffix}", content, **layout)


# What csv readers stumble over, and what merely looks like a line's or a cell's end.
ODD = ['"', '""', "'", ",", "\t", ";", "|", "\n", "\r", "\r\n", "\0", " ", "\\", "\ufeff", "\x1c",
       "\u2028", "\x85", "nan", "1", "-1.5", "1e400", "1e39", "9" * 5000, "1_0", "²", "٣", "é",
       "e\u0301", "👩\u200d👩\u200d👧", "שלום", "\u202e", "a", "b", "text", "label", "İ", "ß", "🇩🇪",
       "\x1a", "\x7f", "ﷺ"]
CELLS = st.lists(st.sampled_from(ODD), max_size=4).map("".join) | st.text(max_size=5)
LABELS = st.sampled_from("ab") | st.sampled_from(ODD) | CELLS
# So many good rows that a few odd ones are looked at as closely as can be.
GOOD = {
    "single": [(f"text {i}", "ab"[i % 2]) for i in range(40)],
    "multi": [(f"text {i}", ["a", "a,b", ""][i % 3]) for i in range(40)],
    "number": [(f"text {i}", str(i / 2)) for i in range(40)],
}


@of_default(3)
@given(st.lists(st.tuples(CELLS, LABELS), max_size=4), st.sampled_from([",", "\t", ";", " ", "a"]),
       st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["written", "joined", "unquoted"]),
       st.sampled_from(sorted(GOOD)), st.sampled_from(["utf-8", "utf-16", "utf-7"]))
def test_any_cells_are_read_or_refused(tmp_path, rows, delimiter, ends, way, kind, encoding):
    rows = [("text", "label"), *GOOD[kind], *rows]
    said = io.StringIO()
    if way == "written":
        csv.writer(said, delimiter=delimiter, lineterminator=ends).writerows(rows)
    else:
        said.write(ends.join(delimiter.join(row) for row in rows))
    content = said.getvalue().encode(encoding, "replace")
    try_to_read(tmp_path / "a.csv", content, delimiter=delimiter, quoting=way != "unquoted",
                kind=kind, encoding=encoding)


@of_default(1)
@given(st.characters() | st.text(max_size=3), st.booleans())
def test_any_delimiter_is_taken_or_refused(tmp_path, delimiter, quoting):
    content = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in GOOD["single"])
    content = content.replace(",", delimiter).encode("utf-8", "replace")
    try_to_read(tmp_path / "a.csv", content, delimiter=delimiter, quoting=quoting)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS
    | st.sampled_from(["\ud800", 10**400, "HUGE"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=4,
)


RECORDS = st.fixed_dictionaries(
    {"text": CELLS | JSON, "label": LABELS | JSON}, optional={"more": JSON, "\ud800": JSON}
)


@of_default(3)
@given(st.lists(RECORDS | JSON, max_size=3) | st.lists(RECORDS, max_size=3),
       st.sampled_from(["jsonl", "json"]), st.sampled_from(sorted(GOOD)))
def test_any_objects_are_read_or_refused(tmp_path, records, suffix, kind):
    good = [{"text": text, "label": label} for text, label in GOOD[kind]]
    lines = [json.dumps(record) for record in [*good, *records]]
    # Longer numbers than Python is willing to read, or to write.
    lines = [line.replace('"HUGE"', "9" * 5000) for line in lines]
    content = "\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]"
    try_to_read(tmp_path / f"a.{suffix}", content.encode(), kind=kind)


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_lists_within_lists_without_end_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_text("[" * 100_000 + "]" * 100_000, "utf-8")
    with pytest.raises(UserError, match="is nested too deeply"):
        read(path, Layout())


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_numbers_too_long_to_be_read_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    line = f'{{"text": "a", "label": {"9" * 5000}}}'
    path.write_text(line if suffix == "jsonl" else f"[{line}]", "utf-8")
    with pytest.raises(UserError, match="a number in it has too many digits"):
        read(path, Layout())


def can(text: str, encoding: str) -> bool:
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


def characters(encoding: str) -> st.SearchStrategy[str]:
    """Draw those that an encoding has, which are looked for when a test draws some."""
    return st.deferred(
        lambda: st.sampled_from([c for c in map(chr, range(0x10000)) if can(c, encoding)])
    )


ANY = st.characters(exclude_categories=["Cs"])
CODECS = dict.fromkeys(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"), ANY)
for name in ("cp1252", "latin-1", "koi8-r", "shift_jis", "euc-kr", "gb18030", "big5"):
    CODECS[name] = characters(name)
FORMS = {
    "excel": {"dialect": "excel"},
    "unix": {"dialect": "unix"},
    "tabs": {"dialect": "excel-tab"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
    "semicolons": {"delimiter": ";"},
    "bars": {"delimiter": "|", "lineterminator": "\n"},
}


@of_default(4)
@given(st.data(), st.sampled_from(sorted(CODECS)), st.sampled_from(sorted(FORMS)))
def test_what_csv_writes_is_what_is_read(tmp_path, data, encoding, form):
    odd = [text for text in ODD if can(text, encoding)]
    texts = st.lists(st.sampled_from(odd), max_size=4).map("".join) | st.text(CODECS[encoding])
    if form == "bars":  # where lines end in another way, Python 3.11 leaves this one unquoted
        texts = texts.map(lambda text: text.replace("\r", ""))
    rows = data.draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=12))
    said = io.StringIO()
    csv.writer(said, **FORMS[form]).writerows([("text", "label"), *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(said.getvalue().encode(encoding))
    delimiter = "\t" if form == "tabs" else FORMS[form].get("delimiter")
    found = read(path, Layout(encoding=encoding, delimiter=delimiter))
    assert found.names == ("text", "label")
    # In their order, too.
    assert list(zip(found.cells["text"], found.cells["label"], strict=True)) == rows
    assert list(found.places) == sorted(set(found.places))


@of_default(1)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=12), st.booleans(),
       st.sampled_from(["jsonl", "json"]))
def test_what_json_writes_is_what_is_read(tmp_path, rows, plain, suffix):
    records = [{"text": text, "label": label} for text, label in rows]
    lines = [json.dumps(record, ensure_ascii=plain) for record in records]
    path = tmp_path / f"a.{suffix}"
    path.write_text("\n".join(lines) if suffix == "jsonl" else json.dumps(records), "utf-8")
    found = read(path, Layout())
    assert list(zip(found.cells["text"], found.cells["label"], strict=True)) == rows


@of_default(0.5)
@given(st.lists(ANY.map(lambda c: c * 3) | CELLS, min_size=12, max_size=30),
       st.sampled_from(["stratified", "hash"]))
def test_no_text_is_lost_or_doubled_by_the_splits(tmp_path, texts, split):
    texts = [f"{text}." for text in texts]
    said = io.StringIO()
    labelled = [(text, "ab"[i % 2]) for i, text in enumerate(texts)]
    csv.writer(said).writerows([("text", "label"), *labelled])
    splits = try_to_read(tmp_path / "a.csv", said.getvalue().encode(), split=split)
    if splits is not None:
        found = [text for part in splits.parts.values() for text in part.inputs]
        assert sorted(found) == sorted(texts)
        # A copy never stands in another split than the text.
        assert sum(len(set(part.inputs)) for part in splits.parts.values()) == len(set(texts))
