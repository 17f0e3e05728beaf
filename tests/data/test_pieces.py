"""A table that is read piece by piece gives what reading it whole gives, in all that follows."""

from __future__ import annotations

import csv
import json
import random
from functools import partial

import numpy as np
import pytest
from memory_watch import STATUS, told_by

from kerasft.data import gathered, kept_splits
from kerasft.data.fingerprint import digests_of, fingerprints, firsts, ranked
from kerasft.data.late_columns import Coded, LateIds
from kerasft.data.late_texts import LateTexts
from kerasft.data.manifest import write_manifest
from kerasft.data.sources import tfrecord as records
from kerasft.data.sources.table import table
from kerasft.data.splits import divide
from kerasft.data.tables import gathering
from kerasft.data.tables.reading import Layout
from kerasft.errors import UserError
from kerasft.system.cache import Cache

TEXTS = ["film", "ब", "a b", "  lead", 'q"uote', "several\nlines", "x,y", "é\u2028z", ""]


def rows(seed, count=90):
    """Return rows with texts that occur twice, empty ones, and labels of all kinds."""
    draw = random.Random(seed)
    return [
        {"text": draw.choice(TEXTS) * draw.randint(1, 3) + draw.choice(["", f" {i}"]),
         "word": draw.choice(["a", "b"]), "words": draw.choice(["a", "a,b", "", "b"]),
         "number": round(draw.random(), 6), "other": draw.choice(["s", "t "]),
         "group": f"g{draw.randint(0, count // 3)}",
         "split": draw.choice(["train", "train", "test", "val"])} for i in range(count)
    ]  # fmt: skip


def write(path, data):
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(data[0]), delimiter=",\t"[path.suffix == ".tsv"])
            writer.writeheader()
            writer.writerows(data)
        return
    if path.suffix in (".jsonl", ".json"):
        # A column that begins late, empty lines, and cells that are not there.
        data[4]["text"] = None
        for row in data[:3]:
            del row["other"]
        path.write_text(
            "\n\n".join(map(json.dumps, data)) if path.suffix == ".jsonl"
            else json.dumps(data, indent=len(data) % 3 or None, ensure_ascii=False), "utf-8"
        )
        return
    made = pa.table({name: [row[name] for row in data] for name in data[0]})
    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=13)
    else:
        with pa.ipc.new_stream(str(path), made.schema) as writer:
            writer.write_table(made, max_chunksize=17)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that reads a table in pieces, as a run does; it says how many there were.

    What is found in the cache comes second.
    """
    monkeypatch.setattr(kept_splits, "SMALL", 0)

    class Counted(gathering.Parts):
        def __iter__(self):
            for one in super().__iter__():
                found.pieces += 1
                yield one

    def found(**settings):
        found.pieces = 0
        monkeypatch.setattr(gathering, "Parts", partial(Counted, most=400))
        cache = Cache(tmp_path / "cache")
        ask = partial(kept_splits.read, table, "table", settings, cache)
        return ask(lambda: table(**settings)), ask(lambda: pytest.fail("it was read again"))

    return found


CASES = {
    "one class": {}, "a pair": {"text_pair": "other"}, "groups": {"group": "group"},
    "several classes": {"kind": "multi", "label": "words"},
    "a number": {"kind": "number", "label": "number", "limit": 20},
    "columns": {"kind": "numbers", "label": ["number", "number2"]},
    "splits": {"split_column": "split"}, "names": {"label_names": ["b", "a"], "split": "hash"},
    "a file": {"test": "more"}, "by number": {"text": 0, "label": 1},
    "labels missing": {"label": "words", "label_names": ["a", "a,b", "b"], "unlabeled": "skip"},
}  # fmt: skip


@pytest.mark.every(5)  # one form of each case, each form twice or more
@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "parquet", "arrow"])
@pytest.mark.parametrize("case", list(CASES))
def test_pieces_give_what_the_whole_gives(read, tmp_path, form, case):
    data = [{**row, "number2": row["number"] * 2} for row in rows(len(case))]
    path, more = tmp_path / f"a.{form}", tmp_path / f"more.{form}"
    write(path, data)
    settings = {"path": str(path), "text": "text", "label": "word", "kind": "single", "seed": 1,
                **CASES[case]}  # fmt: skip
    if case == "a file":
        write(more, rows(1, 20))
        settings["test"] = str(more)
    whole = table(**settings)
    for made in read(**settings):
        assert read.pieces > 4
        same(made, whole, tmp_path)


MARKED = {"one class": "single", "several classes": "multi"}


@pytest.mark.parametrize("marks", ["plain", *MARKED])
def test_labelled_lines_in_pieces_are_those_of_the_whole(read, tmp_path, marks):
    """Also with a carriage return in the last one, blank lines, and in another encoding."""
    draw, path = random.Random(3), tmp_path / "a.txt"
    lines = []
    for i in range(120):
        text = draw.choice(["film", "é", "a __label b", "", "tab\tb"]) + draw.choice(["", f" {i}"])
        label = draw.choice("ab")
        if marks == "plain":
            lines.append(f"{label}  {text} ")
        else:
            after = draw.choice(["", " __label__c", " __label__a"])
            lines.append(f"__label__{label} {text}{after if marks == 'several classes' else ''}")
        lines.extend([""] * draw.choice([0, 0, 2]))
    last = f"{'__label__' * (marks != 'plain')}a film {'x' * 900}\rand more"
    path.write_bytes("\n".join([*lines, last]).encode())
    settings = {"path": str(path), "text": "text", "label": "label", "seed": 1, "format": "lines",
                "kind": MARKED.get(marks, "single"), "encoding": "latin-1"}  # fmt: skip
    whole = table(**settings)
    assert any("valid UTF-8" in one for one in whole.notices)
    assert any("and more" in text for part in whole.parts.values() for text in part.inputs)
    for made in read(**settings):
        assert read.pieces > 3
        same(made, whole, tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "txt"])
def test_what_ends_lines_is_the_same_in_all_pieces(read, tmp_path, form, end):
    path = tmp_path / f"a.{form}"
    more, blank = "x" * 900, " " if end == "\r" else "\r"  # the last line fills pieces by itself
    lines = {
        "csv": ["label,text", *(f"{'ab'[i % 2]},film {i}" for i in range(90)),
                f'a,"{more}\ror two"'],
        "jsonl": [*(json.dumps({"label": "ab"[i % 2], "text": f"film {i}"}) for i in range(90)),
                  f'{{"label": "a",{blank}"text": "{more} or two"}}'],
        "txt": [*(f"{'ab'[i % 2]} film {i}" for i in range(90)), f"a {more}{blank}or two"],
    }[form]  # fmt: skip
    path.write_bytes(end.join(lines).encode())
    settings = {"path": str(path), "text": "text", "label": "label", "kind": "single", "seed": 1,
                "format": "lines" if form == "txt" else form}  # fmt: skip
    whole = table(**settings)
    assert any("or two" in text for part in whole.parts.values() for text in part.inputs)
    for made in read(**settings):
        assert read.pieces > 2
        same(made, whole, tmp_path)


def test_notices_at_the_end_of_a_file_of_blank_lines_are_told(read, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"film {i}", "label": "xy"[i % 2]}) for i in range(90)]
    lines[3] = '{"text": "a", "text": "b", "label": "x"}'
    path.write_text("\n".join(lines) + "\n" * 900, "utf-8")
    settings = {"path": str(path), "text": "text", "label": "label", "kind": "single", "seed": 0}
    made, _ = read(**settings)
    assert "'text' in line 4" in made.notices[0]
    assert made.notices == table(**settings).notices


def same(made, whole, folder):
    assert (made.labels, made.notices, made.source) == (whole.labels, whole.notices, whole.source)
    assert (made.copies, list(made.parts)) == (whole.copies, list(whole.parts))
    for name, part in whole.parts.items():
        mine = made.parts[name]
        assert isinstance(mine.inputs, LateTexts) and isinstance(mine.ids, LateIds)
        assert list(mine.inputs) == list(part.inputs) == mine.inputs[:]
        assert tuple(mine.ids) == part.ids == tuple(mine.ids[:])
        assert mine.labels.dtype == part.labels.dtype
        np.testing.assert_array_equal(mine.labels, part.labels)
        np.testing.assert_array_equal(fingerprints(mine), fingerprints(part))
    one, other = (write_manifest(splits, folder / f"{i}.json") for i, splits in
                  enumerate((whole, made)))  # fmt: skip
    assert one.read_bytes() == other.read_bytes()
    assert one.with_suffix(".arrow").read_bytes() == other.with_suffix(".arrow").read_bytes()


RECORDS = {
    "one class": {}, "a pair": {"text_pair": "other"}, "groups": {"group": "group"},
    "several classes": {"kind": "multi", "label": "words"},
    "a number": {"kind": "number", "label": "number", "limit": 20},
    "names": {"label_names": ["b", "a"], "split": "hash"}, "files": {"test": "more-*"},
}  # fmt: skip


@pytest.mark.parametrize("case", list(RECORDS))
def test_texts_of_records_in_pieces_are_those_of_the_whole(tmp_path, monkeypatch, case):
    import tensorflow as tf

    def feature(value):
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        parts = value.split(",") if isinstance(value, str) and value in ("a,b", "") else [value]
        values = [one.encode() for one in parts if one]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    for file, data in (("a-0", rows(1)), ("a-1", rows(2, 50)), ("more-0", rows(3, 20))):
        with tf.io.TFRecordWriter(str(tmp_path / file)) as writer:
            for row in data:
                features = {name: feature(value) for name, value in row.items()}
                features["text"] = tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[row["text"].encode()])
                )
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    settings = {"path": str(tmp_path / "a-*"), "text": "text", "label": "word", "kind": "single",
                "seed": 1, **RECORDS[case]}  # fmt: skip
    if case == "files":
        settings["test"] = str(tmp_path / "more-*")
    whole = records.tfrecord(**settings)
    monkeypatch.setattr(kept_splits, "SMALL", 0)
    monkeypatch.setattr(gathered, "AT_ONCE", 7)
    ask = partial(kept_splits.read, records.tfrecord, "tfrecord", settings,
                  Cache(tmp_path / "cache"))  # fmt: skip
    same(ask(lambda: records.tfrecord(**settings)), whole, tmp_path)
    same(ask(lambda: pytest.fail("it was read again")), whole, tmp_path)


# Writes and reads 120 MB of texts, and says how many MB more memory that took at most.
READS = """
import sys
from functools import partial
import tensorflow as tf
from kerasft.data import kept_splits
from kerasft.data.sources.tfrecord import tfrecord
from kerasft.system.cache import Cache
from memory_watch import Watch
def of(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
def write(count):
    with tf.io.TFRecordWriter("texts") as file:
        for i in range(count):
            features = {"text": of(b"%06d " % i + b"words " * 1000), "label": of(b"%d" % (i % 2))}
            file.write(tf.train.Example(features=tf.train.Features(feature=features))
                       .SerializeToString())
def read(seed):
    settings = {"path": "texts", "text": "text", "label": "label", "kind": "single", "seed": seed}
    return kept_splits.read(tfrecord, "tfrecord", settings, Cache("cache"),
                            partial(tfrecord, **settings))
write(1000)
read(0)  # all that is imported is imported
write(20_000)
watch = Watch()
splits = read(1)
assert sum(map(len, splits.parts.values())) == 20_000
print(watch.most())
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="of Linux")
def test_texts_of_records_are_not_held_in_memory(tmp_path):
    assert told_by(READS, cwd=tmp_path) < 60


@pytest.mark.parametrize("why", ["no room", "no folder", "it is written meanwhile"])
def test_what_may_not_be_kept_is_read_all_the_same(tmp_path, monkeypatch, why):
    monkeypatch.setattr(kept_splits, "SMALL", 0)
    path, folder = tmp_path / "a.csv", tmp_path / "cache"
    write(path, rows(5))
    settings = {"path": str(path), "text": "text", "label": "word", "kind": "single", "seed": 1}
    whole = table(**settings)
    if why == "no folder":
        folder.write_text("a file")
    cache = Cache(folder, limit_gb=1e-9 if why == "no room" else 1)

    def build():
        made = table(**settings)
        if why == "it is written meanwhile":
            path.write_text(path.read_text("utf-8") + "new,a\n", "utf-8")
        return made

    made = kept_splits.read(table, "table", settings, cache, build)
    assert not cache.entries()
    assert isinstance(made.train.inputs, LateTexts) == (why != "no folder")
    assert (made.notices, made.labels) == (whole.notices, whole.labels)
    for name, part in whole.parts.items():
        assert list(made.parts[name].inputs) == list(part.inputs)
        assert tuple(made.parts[name].ids) == part.ids
        np.testing.assert_array_equal(fingerprints(made.parts[name]), fingerprints(part))


def test_numbers_that_json_has_not_are_read_too(read, tmp_path):
    from decimal import Decimal

    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    data = {"text": [f"film {i}" for i in range(90)], "n": [Decimal(i) / 4 for i in range(90)]}
    parquet.write_table(pa.table(data), path)
    settings = {"path": str(path), "text": "text", "label": "n", "kind": "number", "seed": 0}
    for made in read(**settings):
        same(made, table(**settings), tmp_path)


@pytest.mark.parametrize(("name", "content", "settings"), [
    ("a.csv", "text,label\n" + "a film,x\n" * 60 + "a film,x,y\n", {}),
    ("a.csv", "text,label\n" + "".join(f"{i},x\n" for i in range(90)) + ",x\n",
     {"empty": "fail"}),
    ("a.csv", "text,label\n" + "a film,x\n" * 90, {"text": "nothing"}),
    ("a.csv", "text,label\n" + "a film,x\n" * 90 + 'a "film" of,y\n"open,y\nx,y\n', {}),
    ("a.csv", "text,label\n" + "".join(f"film {i},{'xy'[i % 2]}\n" for i in range(90))
     + '"film 1,x\nfilm 2,y\nfilm 3",x\n', {}),
    ("a.csv", "a,x\n" + "".join(f"film {i},{'zy'[i % 2]}\n" for i in range(90)) + "b,x\n",
     {"text": 0, "label": 1}),
    ("a.csv", "a,5\n" + "".join(f"film {i},{i}\n" for i in range(90)),
     {"text": 0, "label": 1, "kind": "number"}),
    ("a.csv", "text,label\n" + "a film,x\n" * 90 + "b\r" + "c" * 900 + ",x", {}),
    ("a.csv", "text,label\n" + "\n" * 900, {}),
    ("a.jsonl", '{"text": "a", "label": "x"}\n' * 60 + '{"text": 1}\n', {}),
    ("a.jsonl", '{"text": "a", "label": "x"}\n' * 60 + "{\n", {}),
    *(("a.json", content, {}) for content in (
        '[{"text": "a", "label": "x"},' * 60 + "{}]", "[" + '{"text": "a", "label": "x"},' * 60,
        "[" + '{"text": "a", "label": "x"},' * 60 + '{"text": "a", "text": 3}]',
        "[" + '{"text": "a", "label": "x"},' * 60 + "3]", "[]", '{"text": ["a"]}',
        "[" + '{"text": "a", "label": "x"},' * 60 + "]", "[" + '{"a": 1}' * 90 + "]",
        "[" + '{"text": "a", "label": "x"},' * 60 + '{"text": ' + "9" * 5000 + "}]",
        "[" + '{"text": "a", "label": "x"},' * 60 + "{}] {}", "[" * 2000,
    )),
    ("a.txt", "__label__x a film\n" * 90 + "no label\n" + "__label__x a film\n" * 90
     + "__label__x a __label__y b\n__label__x __label__y c\n", {"format": "lines"}),
    ("a.txt", "__label__x __label__y a film\n" * 90, {"format": "lines"}),
    ("a.txt", " \n" * 900, {"format": "lines"}),
])  # fmt: skip
def test_what_is_wrong_is_told_in_the_same_words(read, tmp_path, name, content, settings):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    given = {"path": str(path), "text": "text", "label": "label", "kind": "single", "seed": 0,
             **settings}  # fmt: skip
    with pytest.raises(UserError) as whole:
        table(**given)
    with pytest.raises(UserError) as made:
        read(**given)
    assert str(made.value) == str(whole.value)


@pytest.mark.parametrize(("name", "where"), [
    ("a.jsonl", "'text' in line 4, 'label' in line 81"),
    ("a.json", "'text' in the file, 'label' in the file"),
])  # fmt: skip
def test_notices_of_a_file_come_once(read, tmp_path, name, where):
    path = tmp_path / name
    lines = [json.dumps({"text": f"film {i}", "label": "xy"[i % 2]}) for i in range(90)]
    lines[3], lines[80] = '{"text": "a", "text": "b", "label": "x"}', '{"label": "", "label": "y"}'
    path.write_text(
        "\n".join(lines) if name == "a.jsonl" else f"[{', '.join(lines)}]" + " \n" * 300, "utf-8"
    )
    settings = {"path": str(path), "text": "text", "label": "label", "kind": "single", "seed": 0}
    made, _ = read(**settings)
    assert read.pieces > 4
    assert made.notices == table(**settings).notices
    assert where in made.notices[0]


def test_an_object_longer_than_a_piece_is_one_all_the_same(read, tmp_path):
    path = tmp_path / "a.json"
    data = [{"text": f"{{[\"{i}\", " * 30 * (1 + 60 * (i == 40)), "label": "xy"[i % 2],
             "nested": [{"a": i}]} for i in range(60)]  # fmt: skip
    path.write_text(json.dumps(data), "utf-8")
    settings = {"path": str(path), "text": "text", "label": "label", "kind": "single", "seed": 0}
    for made in read(**settings):
        same(made, table(**settings), tmp_path)


def test_a_list_that_is_cut_off_between_two_looks_is_said_to_have_changed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": f"film {i}", "label": "x"} for i in range(9000)]), "utf-8")
    parts = gathering.Parts(path, Layout(), "data.path", most=400)
    rows = iter(parts)
    next(rows)
    path.write_text(path.read_text("utf-8")[:200_000], "utf-8")
    with pytest.raises(UserError, match=r"data\.path: .*a\.json has changed while it was read"):
        list(rows)


def test_names_of_many_examples_sort_as_texts():
    draw = np.random.default_rng(0)
    for files in (["a.csv"], ["b.csv", "a.csv"], ["t/a.csv", "t/a.csv:1"], ["x", "xa"]):
        places = np.concatenate([draw.choice(most, 20, replace=False)
                                 for most in (30, 10**6, 10**12)[: len(files)]])  # fmt: skip
        whole = LateIds(files, [20, 40][: len(files)], places)
        for ids in (whole, whole.choose(draw.permutation(len(whole))[:15])):
            spelled = list(ids)
            assert ids.order().tolist() == sorted(range(len(ids)), key=spelled.__getitem__)
            assert [ids[i] for i in range(len(ids))] == spelled


def test_values_that_look_alike_stay_what_they_are():
    given = [1, True, 1.0, "1", 0.0, -0.0, None, [1], [True], (1,), {"a": 1}, 1, [1]]
    made = Coded()
    made.extend(given)
    assert list(map(repr, made)) == list(map(repr, given)) == list(map(repr, made[:]))
    assert len(made.distinct) == 11
    assert list(map(repr, made.choose([2, 0, 12]))) == ["1.0", "1", "[1]"]


def test_fingerprints_of_several_arrays_rank_as_one():
    draw = np.random.default_rng(1)
    whole = digests_of([str(i) for i in range(60)], "text").copy()
    whole[draw.integers(0, 60, 20)] = whole[draw.integers(0, 60, 20)]
    whole[:12, :8] = whole[0, :8]  # alike in what is looked at first
    words = np.ascontiguousarray(whole).view(">u8").astype("uint64")
    wanted = np.lexsort((np.arange(60), *words.T[::-1]))
    differs = np.r_[True, (words[wanted][1:] != words[wanted][:-1]).any(axis=1)]
    for cut in ([whole], [whole[:7], whole[7:40], whole[40:]]):
        order, first = ranked(*cut)
        np.testing.assert_array_equal(order, wanted)
        np.testing.assert_array_equal(first, differs)
    spelled = [one.tobytes() for one in whole]
    assert firsts(whole[:30], whole[30:]).tolist() == [spelled.index(one) for one in spelled]


def test_groups_of_one_are_dealt_out_as_one_by_one():
    """The same split as by a loop over all groups."""
    draw = np.random.default_rng(2)
    for case in range(60):
        count = int(draw.integers(1, 50))
        keys = [f"k{i}" for i in draw.integers(0, draw.integers(1, count + 1), count)]
        strata = draw.integers(0, 3, count)
        parts = {"validation": float(draw.choice([0.01, 0.15, 0.5])),
                 "test": float(draw.choice([0, 0.15, 0.4]))}  # fmt: skip
        made = divide(keys, strata=strata, seed=case, **parts)
        assert made.tolist() == one_by_one(keys, strata, case, **parts).tolist()


def one_by_one(keys, strata, seed, *, validation, test):
    from collections import Counter

    from kerasft.data.splits import position

    members, result = {}, np.zeros(len(keys), "int64")
    for place, key in enumerate(keys):
        members.setdefault(key, []).append(place)
    kind = {key: min(Counter(strata[rows].tolist()).items(), key=lambda one: (-one[1], one[0]))[0]
            for key, rows in members.items()}  # fmt: skip
    for stratum in set(kind.values()):
        names = sorted((k for k in members if kind[k] == stratum), key=lambda k: position(k, seed))
        total, free, missing = sum(len(members[k]) for k in names), len(names) - 1, {1: 0, 2: 0}
        for part, ratio in ((1, validation), (2, test)):
            if ratio > 0 and free > 0:
                missing[part], free = max(1, round(total * ratio)), free - 1
        kept = len(names)
        for key in names:
            size = len(members[key])
            part = next((p for p in (2, 1) if missing[p] > 0 and size <= 2 * missing[p]), 0)
            if part and kept > 1:
                result[members[key]] = part
                missing[part] -= size
                kept -= 1
    return result
