import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from table_files import ROWS, TEXTS, ask, everything, fails, write

from kerasft.data.sources.table import table
from kerasft.errors import UserError
from kerasft.spec import Labels


def test_csv(tmp_path):
    splits = ask(write(tmp_path / "a.csv"))
    assert {n: len(p) for n, p in splits.parts.items()} == {
        "train": 28, "validation": 6, "test": 6,
    }  # fmt: skip
    assert sorted(everything(splits).values()) == sorted(TEXTS)
    assert everything(splits)["a.csv:2"] == TEXTS[0]
    assert splits.labels.names == ("a", "b")


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "json", "parquet"])
def test_other_formats_give_the_same(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    records = [{"text": text, "label": label} for text, label in ROWS]
    if suffix == "tsv":
        write(path, delimiter="\t")
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records), "utf-8")
    elif suffix == "json":
        path.write_text(json.dumps(records), "utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    assert sorted(everything(ask(path)).values()) == sorted(TEXTS)


ODD = [
    "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি",
    " leading and trailing \u00a0",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "nul \0 inside\0",
    "composed é and decomposed e\u0301",
    "joined \u200d\u200c\ufeff signs 👩\u200d👩\u200d👧",
    'a "quoted" word, and\ntwo lines',
    "tab\tinside",
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_no_character_is_lost(tmp_path, encoding):
    rows = [(text, "ab"[i % 2]) for i, text in enumerate(ODD * 3)]
    path = write(tmp_path / "a.csv", rows, encoding=encoding)
    settings = {"encoding": encoding} if "16" in encoding else {}
    assert sorted(everything(ask(path, **settings)).values()) == sorted(ODD * 3)


def test_no_character_is_lost_without_quoting(tmp_path):
    texts = [t for t in ODD if "\n" not in t and "\t" not in t] + ['"leading quote', "a\rb"]
    lines = [f"{text}\t{i % 2}" for i, text in enumerate(texts * 3)]
    (tmp_path / "a.tsv").write_bytes("\n".join(lines).encode() + b"\n")
    splits = ask(tmp_path / "a.tsv", header=False, text=0, label=1, quoting=False)
    assert sorted(everything(splits).values()) == sorted(texts * 3)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines(tmp_path, ends, quoting, last):
    lines = ["text,label"] + [f"t{i},{'ab'[i % 2]}" for i in range(20)]
    content = ends.join(lines) + (ends if last else "")
    (tmp_path / "a.csv").write_bytes(content.encode())
    splits = ask(tmp_path / "a.csv", quoting=quoting)
    assert sorted(everything(splits).values()) == sorted(f"t{i}" for i in range(20))
    assert splits.labels.names == ("a", "b")
    assert everything(splits)["a.csv:3"] == "t1"


def test_quoted_lines_are_counted_as_an_editor_does(tmp_path):
    path = write(tmp_path / "a.csv", [("one\ntwo", "a"), ("three", "b"), *ROWS])
    assert everything(ask(path))["a.csv:4"] == "three"


def test_pairs_and_numbers(tmp_path):
    rows = [(f"a{i}", f"b{i}", i / 7) for i in range(20)]
    path = write(tmp_path / "a.csv", rows, header=None)
    splits = ask(
        path, kind="number", header=False, columns=["a", "b", "score"], text="a", text_pair="b",
        label="score",
    )  # fmt: skip
    assert set(everything(splits).values()) == {(f"a{i}", f"b{i}") for i in range(20)}
    assert splits.train.labels.dtype == np.float64
    assert splits.labels.kind == "number"


def test_columns_by_number(tmp_path):
    path = write(tmp_path / "a.csv")
    assert everything(ask(path, text=0, label=1)) == everything(ask(path))


def test_other_files_beside_the_first(tmp_path):
    write(tmp_path / "train.csv")
    write(tmp_path / "dev.csv", [("x", "a"), (TEXTS[0], "b")])
    splits = ask(tmp_path / "train.csv", validation="dev.csv", test=0.1)
    assert splits.validation.ids == ("validation/dev.csv:2", "validation/dev.csv:3")
    assert len(splits.test) == 4
    assert any("1 text" in n and "exact" in n for n in splits.notices)
    assert any("different labels" in n for n in splits.notices)
    assert ask(tmp_path / "train.csv", validation="dev.csv", test=0).test is None


def test_label_names(tmp_path):
    rows = [(t, i % 3) for i, t in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows)
    (tmp_path / "names.txt").write_text("zero\none\ntwo\nthree\n", "utf-8")
    splits = ask(path, label_names="names.txt")
    assert splits.labels.names == ("zero", "one", "two", "three")
    assert any("No training example carries the label: three" in n for n in splits.notices)


def test_split_column(tmp_path):
    rows = [
        (t, "ab"[i % 2], ["train", "train", "Train", "dev"][i % 4]) for i, t in enumerate(TEXTS)
    ]
    path = write(tmp_path / "a.csv", rows, header=("text", "label", "part"))
    splits = ask(path, split_column="part", test=0)
    assert {n: len(p) for n, p in splits.parts.items()} == {"train": 30, "validation": 10}
    assert "a.csv:2 has 'a'" in fails(path, split_column="label")
    assert "exclude each other" in fails(path, split_column="part", test="a.csv")


def test_groups(tmp_path):
    rows = [(t, "ab"[i % 2], f"g{i // 4}") for i, t in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("text", "label", "who"))
    splits = ask(path, group="who", validation=0.2, test=0.2)
    group = {t: g for t, _, g in rows}
    held = [{group[t] for t in p.inputs} for p in splits.parts.values()]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


def test_hash_split_is_stable_under_added_rows(tmp_path):
    rows = [(f"row {i}", "ab"[i % 2]) for i in range(300)]
    old = ask(write(tmp_path / "a.csv", rows[:200]), split="hash")
    new = ask(write(tmp_path / "a.csv", rows[::-1]), split="hash")
    for name, part in old.parts.items():
        assert set(part.inputs) <= set(new.parts[name].inputs)


def test_limit(tmp_path):
    splits = ask(write(tmp_path / "a.csv"), limit=5)
    assert [len(p) for p in splits.parts.values()] == [5, 6, 6]
    assert "data.limit" in fails(tmp_path / "a.csv", limit=0)


def test_copies_share_a_split(tmp_path):
    splits = ask(write(tmp_path / "a.csv", ROWS * 3))
    assert not splits.notices
    assert sum(len(p) for p in splits.parts.values()) == 120


def test_empty_and_long_texts(tmp_path):
    path = write(tmp_path / "a.csv", [*ROWS, ("", "a"), (" \t", "b"), ("x" * 200_000, "a")])
    splits = ask(path)
    assert any(
        n.startswith("2 texts left out, as empty: a.csv:42, a.csv:43") for n in splits.notices
    )
    assert any("1 text of more than 100,000 characters" in n for n in splits.notices)
    assert "2 texts empty: a.csv:42" in fails(path, empty="fail")


BARE = {
    "one class": ([*["a", "b"] * 19, "", "\u200b"], {}, "empty or NaN: a.csv:40, a.csv:41"),
    "numbers": ([*range(38), "", " "], {"kind": "number"}, "no finite number.*a.csv:40 has ''"),
    "columns": ([*range(39), ""], {"kind": "numbers", "label": ["label", "label2"]},
                "no finite number.*a.csv:41 has ''"),
}  # fmt: skip


@pytest.mark.parametrize("case", BARE)
def test_rows_without_a_label_are_left_out_where_that_is_wanted(tmp_path, case):
    labels, settings, words = BARE[case]
    rows = [(text, one, one) for text, one in zip(TEXTS, labels, strict=True)]
    path = write(tmp_path / "a.csv", rows, header=("text", "label", "label2"))
    said = fails(path, **settings)
    assert re.search(words, said)
    count = sum(not str(one).strip("\u200b ") for one in labels)
    assert f"data.unlabeled=skip leaves out rows without a label ({count} row" in said
    splits = ask(path, unlabeled="skip", **settings)
    assert f"{count} row" in splits.notices[0]
    assert "left out, without a label (data.label=" in splits.notices[0]
    assert "a.csv:41" in splits.notices[0]
    assert set(everything(splits)) == {f"a.csv:{2 + i}" for i in range(40 - count)}
    assert "must be one of ['skip', 'fail']" in fails(path, unlabeled="leave", **settings)


def test_rows_without_a_label_are_learned_from_where_there_may_be_several(tmp_path):
    path = write(tmp_path / "a.csv", [(t, ["a", "b", ""][i % 3]) for i, t in enumerate(TEXTS)])
    assert len(everything(ask(path, kind="multi"))) == 40
    assert len(everything(ask(path, kind="multi", unlabeled="skip"))) == 27
    error = fails(write(tmp_path / "b.csv", [(t, "") for t in TEXTS]), kind="multi")
    assert "data.unlabeled" not in error


def test_multi_label(tmp_path):
    path = write(
        tmp_path / "a.csv", [(t, ["a", "a;b", "", "c"][i % 4]) for i, t in enumerate(TEXTS)]
    )
    splits = ask(path, kind="multi", label_delimiter=";")
    assert splits.labels.names == ("a", "b", "c")
    assert any("10 examples carry no label" in n for n in splits.notices)


def test_a_column_for_each_label(tmp_path):
    rows = [(t, i % 2, ["0", "1", "true", ""][i % 4]) for i, t in enumerate(TEXTS)]
    path = write(tmp_path / "a.csv", rows, header=("text", "x", "y"))
    splits = ask(path, kind="multi", label=["x", "y"])
    assert splits.labels.names == ("x", "y")
    for text, label in zip(splits.train.inputs, splits.train.labels, strict=True):
        row = TEXTS.index(text)
        assert label.tolist() == [row % 2, row % 4 in (1, 2)]


def test_utf8_read_as_something_else_is_told(tmp_path):
    rows = [(t + " é", label) for t, label in ROWS]
    notices = ask(write(tmp_path / "a.csv", rows), encoding="latin-1").notices
    assert any("valid UTF-8" in n for n in notices)
    write(tmp_path / "a.csv", rows, encoding="latin-1")
    splits = ask(tmp_path / "a.csv", encoding="latin-1")
    assert not splits.notices
    assert splits.train.inputs[0].endswith(" é")


def test_paths_of_images(tmp_path):
    (tmp_path / "pics").mkdir()
    for i in range(20):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "pics" / f"{i}.png")
    rows = [(f"pics/{i}.png", "ab"[i % 2]) for i in range(20)]
    path = write(tmp_path / "a.csv", rows, header=("file", "label"))
    splits = ask(path, text=None, image="file")
    assert splits.train.modality == "images"
    assert splits.train.inputs[0].startswith(str(tmp_path / "pics"))
    path = write(tmp_path / "a.csv", [*rows, ("pics/none.png", "a")], header=("file", "label"))
    notices = ask(path, text=None, image="file").notices
    assert any("a.csv:22 (column 'file', " in n and "there is no such file" in n for n in notices)
    assert "no such file" in fails(path, text=None, image="file", broken="fail")
    path = write(tmp_path / "a.csv", [*rows, ("", "a")], header=("file", "label"))
    assert "a.csv:22 has ''" in fails(path, text=None, image="file")


def test_images_inside_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    rows = [
        {"image": {"bytes": content + bytes([i]), "path": "x"}, "label": i % 2} for i in range(20)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    splits = ask(tmp_path / "a.parquet", text=None, image="image")
    assert isinstance(splits.train.inputs[0], bytes)
    assert splits.labels.names == ("0", "1")


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        (b"", {}, "empty (0 bytes)"),
        (b"\n\n", {}, "only empty lines"),
        (b"text,label\n", {}, "no rows"),
        (b"txt,label\na,b\n", {}, "has no column 'text'. Did you mean 'txt'?"),
        (b"text;label\na;b\n", {}, "data.delimiter=';'"),
        (b"good,1\nbad,0\n", {}, "data.header=false"),
        (b"text,label\na,b\n", {"header": False, "columns": ["text", "label"]}, "data.header=true"),
        (b"text,label,text\na,b,c\n", {}, "2 columns named 'text'"),
        (b"text,label\na,b\nc\nd,e,f\n", {}, "line 3 has 1, line 4 has 3"),
        (b'text,label\n"a,b\nc,d\n', {}, "data.quoting=false"),
        (b'text,label\n"a"b,c\n', {}, "line 2: the quotes do not pair up"),
        (b"text,label\na,b\n", {"columns": ["x"]}, "Received: 1 names"),
        (b"text,label\na,\nb,c\n", {}, "a.csv:2"),
        (b"text,label\na,x\nb,x\n", {}, "the only one is 'x'"),
        (b"text,label\n ,x\n ,y\n", {}, "no example that can be used"),
        (b"text,label\na,x\nb,y\n", {}, "none for: validation, test"),
        (b"text,label\ncaf\xe9,x\nb,y\n", {}, "byte 14 (0xe9, in line 2)"),
        (b"text,label\ncaf\xe9,x\nb,y\n", {}, "cp1252 or latin-1"),
        ("text,label\na,b\n".encode("utf-16"), {}, "data.encoding=utf-16"),
        (b"PAR1\xff\xfe", {}, "binary file"),
        (b"text,label\na,b\n", {"encoding": "utf8-bom"}, "data.encoding"),
        (b"text,label\na,b\n", {"encoding": "base64"}, "data.encoding"),
        (b"text,label\na,b\n", {"format": "xlsx"}, "data.format"),
        (b"text,label\na,b\n", {"delimiter": "::"}, "data.delimiter"),
        (b"text,label\na,b\n", {"text": None}, "Exactly one of data.text and data.image"),
        (b"text,label\na,b\n", {"image": "label"}, "Exactly one of data.text and data.image"),
        (b"text,label\na,b\n", {"text": "label"}, "name the same column"),
        (b"text,label\na,b\n", {"text_pair": "text"}, "name the same column"),
        (
            b"text,label\na,b\n",
            {"text": None, "image": "label", "text_pair": "x"},
            "needs data.text",
        ),
        (b"text,label\na,b\n", {"header": "yes"}, "data.header"),
        (b"text,label\na,b\n", {"empty": "drop"}, "data.empty"),
        (b"text,label\na,b\n", {"split": "x", "validation": 3}, "data.validation=3"),
        (b"text,label\na,b\n", {"validation": "none.csv"}, "data.validation=none.csv"),
        (b"text,label\na,b\n", {"validation": "a.csv"}, "must not share a file"),
        (b"text,label\na,b\n", {"label_names": "none.txt"}, "data.label_names=none.txt"),
        (b"text,label\na,b\n", {"group": "who"}, "data.group"),
        (b"text,label\na,0.1\nb,x\n", {"kind": "number"}, "a.csv:3 has 'x'"),
        (b"good,1\nbad,0\nfine,1\n", {"text": 0, "label": 1}, "data.header=false"),
        (b"text,a,b\nx,1,0\n", {"label": ["a", "b"]}, "task=multi_label"),
        (b"text,a,b\nx,1,7\n", {"label": ["a", "b"], "kind": "multi"}, "a.csv:2 has '7'"),
        (b"text,a,b\nx,1,0\n", {"label": ["a", "text"], "kind": "multi"}, "the same column"),
    ],
)
def test_bad_csv(tmp_path, content, settings, said):
    (tmp_path / "a.csv").write_bytes(content)
    assert said in fails(tmp_path / "a.csv", **settings)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": ', "line 2 is no JSON"),
        ("a.jsonl", "[1]\n", "line 1: each line must hold an object"),
        ("a.jsonl", '{"text": 5, "label": 1}', "a.jsonl:1 has int"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 1}', "half a character"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y"}', "a.jsonl:2"),
        ("a.jsonl", '{"text": "x", "label": NaN}\n{"text": "y", "label": 1}', "a.jsonl:1"),
        ("a.jsonl", '{"txt": "x", "label": 1}', "Did you mean 'txt'?"),
        ("a.json", '{"text": "x"}', "one list of objects"),
        ("a.json", "[", "is no JSON"),
        ("a.json", "[]", "no rows"),
        ("a.parquet", "x", "no Parquet file"),
        ("a.xlsx", "x", "data.format"),
        ("messages", "x", "data.format"),
    ],
)
def test_other_bad_files(tmp_path, name, content, said):
    (tmp_path / name).write_text(content, "utf-8")
    assert said in fails(tmp_path / name)


def test_bad_paths(tmp_path):
    write(tmp_path / "reviews.csv")
    assert "Did you mean 'reviews.csv'?" in fails(tmp_path / "review.csv")
    assert "data=image_folder" in fails(tmp_path)
    assert "does not exist either" in fails(tmp_path / "no" / "x.csv")


def test_a_label_that_only_the_test_has(tmp_path):
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv", [("x", "a"), ("y", "c")])
    assert "'c' is in test only, never in train: test/b.csv:3" in fails(
        tmp_path / "a.csv", test="b.csv"
    )
    splits = ask(tmp_path / "a.csv", test="b.csv", label_names=["a", "b", "c"])
    assert any("No training example carries the label: c" in n for n in splits.notices)


def test_sms_spam(real_data):
    splits = ask(
        real_data / "sms_spam" / "SMSSpamCollection", format="tsv", header=False,
        columns=["label", "text"], quoting=False,
    )  # fmt: skip
    assert sum(len(p) for p in splits.parts.values()) == 5574
    assert splits.labels.names == ("ham", "spam")
    spam = [p.labels.mean() for p in splits.parts.values()]
    assert max(spam) - min(spam) < 0.005
    assert not any("copies" in n for n in splits.notices)


def test_sst2(real_data):
    splits = ask(
        real_data / "sst2" / "train.tsv", header=False, text=0, label=1, quoting=False,
        validation="dev.tsv", test="test.tsv", label_names=["negative", "positive"],
    )  # fmt: skip
    assert [len(p) for p in splits.parts.values()] == [6920, 872, 1821]
    assert splits.labels.names == ("negative", "positive")


@pytest.mark.slow
def test_goemotions(real_data):
    splits = ask(
        real_data / "goemotions" / "train.tsv", kind="multi", header=False, text=0, label=1,
        quoting=False, validation="dev.tsv", test="test.tsv", label_names="labels.txt",
    )  # fmt: skip
    assert [p.labels.shape for p in splits.parts.values()] == [
        (15000, 28), (5426, 28), (5427, 28),
    ]  # fmt: skip
    assert splits.labels.names[27] == "neutral"


def test_stsb(real_data):
    splits = ask(
        real_data / "stsb" / "train.csv", kind="number", header=False, text=0, text_pair=1,
        label=2, validation="dev.csv", test="test.csv",
    )  # fmt: skip
    assert [len(p) for p in splits.parts.values()] == [5749, 1500, 1379]
    assert splits.train.inputs[0] == ("A plane is taking off.", "An air plane is taking off.")


def test_bengali(real_data):
    folder = real_data / "bengali_drama_sentiment"
    splits = ask(folder / "train.csv", validation="val.csv", test="test.csv")
    assert [len(p) for p in splits.parts.values()] == [8578, 1072, 1073]
    for name, part in zip(("train", "val", "test"), splits.parts.values(), strict=True):
        with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
            assert list(part.inputs) == [row["text"] for row in csv.DictReader(file)]


def test_labels_of_bytes_that_are_no_text_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    records = [{"text": f"t{i}", "label": b"ab\xff"[i % 3 : i % 3 + 1]} for i in range(30)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "a.parquet")
    said = fails(tmp_path / "a.parquet")
    assert "10 labels of data.label=label are no UTF-8 text but other bytes: a.parquet:3" in said


@pytest.mark.parametrize("odd", ["a\0b.png", "\ud800.png"])
def test_paths_that_cannot_be_are_named(tmp_path, odd):
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    rows = [{"image": "good.png", "label": "ab"[i % 2]} for i in range(8)]
    rows.append({"image": odd, "label": "a"})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    said = fails(tmp_path / "a.jsonl", text=None, image="image", broken="fail")
    assert "a.jsonl:9" in said and "it contains a character that no path can have" in said


SIZES = "text,width,height\na,1,10\nb,2.5,20\nc,3,40\nd,4,30\ne,5,60\nf,6,50\n"


def numbers(tmp_path, content=SIZES, **more):
    (tmp_path / "sizes.csv").write_text(content)
    settings = {"label": ["width", "height"], "text": "text", "validation": 0.2, "test": 0.2} | more
    return table(str(tmp_path / "sizes.csv"), kind="numbers", seed=0, **settings)


def test_several_numbers_are_several_columns(tmp_path):
    splits = numbers(tmp_path)
    assert splits.labels == Labels("numbers", ("width", "height"))
    found = {text: row.tolist() for part in splits.parts.values()
             for text, row in zip(part.inputs, part.labels, strict=True)}  # fmt: skip
    assert found["b"] == [2.5, 20.0] and found["e"] == [5.0, 60.0] and len(found) == 6


def test_several_numbers_may_be_a_list_in_a_cell(tmp_path):
    lists = 'text,size\n' + "".join(f'{c},"[{i}, {i * i}.5]"\n' for i, c in enumerate("abcdef"))
    splits = numbers(tmp_path, lists, label="size")
    assert splits.labels.names == ("0", "1")
    named = numbers(tmp_path, lists, label="size", label_names=["w", "h"])
    assert named.labels.names == ("w", "h")
    found = {text: row.tolist() for part in named.parts.values()
             for text, row in zip(part.inputs, part.labels, strict=True)}  # fmt: skip
    assert found["d"] == [3.0, 9.5]


@pytest.mark.parametrize(("content", "more", "said"), [
    (SIZES.replace("2.5", "two"), {},
     r"1 label of data.label=\['width', 'height'\] \(width\) is no finite number"),
    (SIZES, {"label": "width", "label_names": ["w", "h"]},
     "must hold 2 numbers, one for each of w, h"),
    ("text,size\n" + "".join(f'{c},"[{"1, " * (i % 2)}{i}]"\n' for i, c in enumerate("abcdef")),
     {"label": "size"}, "must hold 1 numbers, as many as the first one: .* has 2"),
])  # fmt: skip
def test_several_numbers_that_are_none_are_told(tmp_path, content, more, said):
    with pytest.raises(UserError, match=said):
        numbers(tmp_path, content, **more)
