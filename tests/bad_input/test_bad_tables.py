"""Tables in odd encodings and shapes, told by file, line and key before a network is loaded."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest

ROWS = "".join(f"a {w} film {i},{label}\n" for i in range(12)
               for w, label in (("good", "pos"), ("bad", "neg")))  # fmt: skip
TABLE = "text,label\n" + ROWS
NUMBERS = "text,label\n" + "".join(f"text {i},{i / 10}\n" for i in range(24))
LINES = "".join(json.dumps({"text": f"a film {i}", "label": i % 2}) + "\n" for i in range(24))


def parquet(path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [json.loads(line) for line in LINES.splitlines()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def parquet_of_numbers(path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": range(9), "label": range(9)}), path)


def half_a_parquet(path) -> None:
    parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def a_spoilt_parquet(path) -> None:
    parquet(path)
    content = bytearray(path.read_bytes())
    content[8:200] = bytes(192)
    path.write_bytes(content)


def xlsx() -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return place.getvalue()


# name: (file, content, further overrides, what the message says)
FILES = {
    "an empty file": ("t.csv", "", "", "t.csv is empty (0 bytes)"),
    "empty lines": ("t.csv", "\n\n\n", "", "only empty lines"),
    "a header alone": ("t.csv", "text,label\n", "", "t.csv holds no rows", "data.header=false"),
    "no header": ("t.csv", ROWS, "", "no column 'label'", "data.header=false"),
    "one column": ("t.csv", "text\na film\n", "", "no column 'label'", "'text'"),
    "a misspelt column": ("t.csv", "txt,label\na,b\n", "", "Did you mean 'txt'?"),
    "another delimiter": ("t.csv", TABLE.replace(",", ";"), "", "data.delimiter=';'"),
    "tabs in a CSV": ("t.csv", TABLE.replace(",", "\t"), "", "data.delimiter="),
    "commas in a TSV": ("t.tsv", TABLE, "", "data.delimiter=','"),
    "a column twice": ("t.csv", "text,label,text\na,b,c\n", "", "2 columns named 'text'"),
    "ragged rows": ("t.csv", TABLE + "short\none,too,many\n", "", "line 26 has 1", "line 27 has 3"),
    "an unclosed quote": ("t.csv", TABLE + '"never closed,pos\n', "", "line 26", "data.quoting"),
    "a quote inside a cell": ("t.csv", TABLE + '"so "called" film",pos\n', "", "line 26"),
    "a label over two lines": ("t.csv", TABLE.replace(",neg", ',"neg\nligible"'), "",
                               "1 class name of data.label", "line break", r"'neg\nligible'"),
    "UTF-16": ("t.csv", TABLE.encode("utf-16"), "", "data.encoding=utf-16"),
    "UTF-16 without a mark": ("t.csv", TABLE.encode("utf-16-le"), "", "are zero", "utf-16-le"),
    "UTF-16 the other way": ("t.csv", TABLE.encode("utf-16-be"), "", "are zero", "utf-16-be"),
    "UTF-32": ("t.csv", TABLE.encode("utf-32"), "", "data.encoding=utf-32"),
    "Latin-1": ("t.csv", TABLE.encode() + "café,pos\n".encode("latin-1"), "",
                "line 26", "0xe9", "cp1252 or latin-1"),
    "another encoding than said": ("t.csv", TABLE + "café,pos\n", "data.encoding=ascii", "ascii"),
    "an encoding that is none": ("t.csv", TABLE, "data.encoding=utf9", "data.encoding", "utf-8"),
    "an encoding of bytes": ("t.csv", TABLE, "data.encoding=base64", "data.encoding"),
    "half a UTF-8 character": ("t.csv", TABLE.encode() + b"caf\xc3", "", "0xc3", "line 26"),
    "zeros alone": ("t.csv", bytes(512), "", "nothing but zero bytes"),
    "an image": ("t.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "", "t.csv", "0x89"),
    "a gzip called CSV": ("t.csv", gzip.compress(TABLE.encode()), "", "looks like a binary file"),
    "an Excel file called CSV": ("t.csv", xlsx(), "", "looks like a binary file"),
    "a Parquet file called CSV": ("t.csv", parquet, "", "looks like a binary file"),
    "a gzip": ("t.csv.gz", gzip.compress(TABLE.encode()), "", "t.csv.gz is compressed",
               "Unpack it first"),
    "half a gzip said to be CSV": ("t.csv.gz", gzip.compress(TABLE.encode())[:40],
                                   "data.format=csv", "0x8b", "binary file"),
    "an Excel file": ("t.xlsx", xlsx(), "", "t.xlsx is compressed", "Save the sheet as CSV"),
    "no suffix": ("t", TABLE, "", "data.format"),
    "a format that is none": ("t.csv", TABLE, "data.format=cvs", "Did you mean 'csv'?"),
    "a CSV called Parquet": ("t.parquet", TABLE, "", "no Parquet file"),
    "half a Parquet file": ("t.parquet", half_a_parquet, "", "no Parquet file, or broken"),
    "a spoilt Parquet file": ("t.parquet", a_spoilt_parquet, "", "no Parquet file, or broken"),
    "numbers for texts": ("t.parquet", parquet_of_numbers, "", "column of texts", "has int"),
    "a CSV called JSON lines": ("t.jsonl", TABLE, "", "line 1 is no JSON"),
    "a broken line": ("t.jsonl", LINES + '{"text": "a"', "", "line 25 is no JSON"),
    "lists for objects": ("t.jsonl", "[1]\n[2]\n", "", "line 1", "must hold an object"),
    "a nested text": ("t.jsonl", LINES + '{"text": {"en": "a"}, "label": 1}\n', "",
                      "t.jsonl:25 has dict"),
    "a nested label": ("t.jsonl", LINES + '{"text": "a", "label": [1]}\n', "", "t.jsonl:25"),
    "half a character in JSON": ("t.jsonl", LINES + '{"text": "\\ud83d", "label": 1}\n', "",
                                 "t.jsonl:25", "half a character"),
    "an object for a label": ("t.jsonl", LINES + '{"text": "a", "label": {"is": 1}}\n', "",
                              "t.jsonl:25 has {'is': 1}"),
    "half a character in a label": ("t.jsonl", LINES + '{"text": "a", "label": "\\ud83d"}\n', "",
                                    "t.jsonl:25", "half a character"),
    "deep nesting in a line": ("t.jsonl", LINES + "[" * 100_000 + "\n", "", "line 25", "nested"),
    "deep nesting": ("t.json", "[" * 100_000, "", "t.json", "nested"),
    "a number too long": ("t.jsonl", LINES + '{"text": "a", "label": ' + "9" * 5000 + "}\n", "",
                          "line 25"),
    "an object for a list": ("t.json", '{"text": "a"}', "", "one list of objects"),
    "an empty list": ("t.json", "[]", "", "holds no rows"),
    "JSON lines called JSON": ("t.json", LINES, "", "data.format=jsonl"),
    "an empty label": ("t.csv", TABLE + "a film,\n", "", "t.csv:26"),
    "one class": ("t.csv", TABLE.replace("neg", "pos"), "", "the only one is 'pos'"),
    "too few rows": ("t.csv", "text,label\na,x\nb,y\n", "", "none for: validation, test"),
    "a class for the test alone": ("t.csv", TABLE, "data.test=u.csv", "odd"),
    "texts for numbers": ("t.csv", TABLE, "task=regression", "t.csv:2", "'pos'"),
    "a label that is nan": ("t.csv", NUMBERS + "a,nan\n", "task=regression", "t.csv:26", "nan"),
    "a label that is infinite": ("t.csv", NUMBERS + "a,inf\n", "task=regression", "t.csv:26"),
    "a label too large": ("t.csv", NUMBERS + "a,1e400\n", "task=regression", "t.csv:26"),
    "a label too large for 32 bits": ("t.csv", NUMBERS + "a,1e39\n", "task=regression", "t.csv:26"),
    "labels all alike": ("t.csv", TABLE.replace("pos", "1").replace("neg", "1"), "task=regression",
                         "nothing to learn"),
    "labels that differ by case": ("t.csv", TABLE + "a,Pos\n", "", "'Pos' and 'pos'"),
    "measurements for classes": ("t.csv", "text,label\n" + "".join(
        f"text {i},{i / 7:.3f}\n" for i in range(30)), "", "task=regression"),
    "a text of its own in each row for labels": ("t.csv", "text,label\n" + "".join(
        f"text {i},so {i}\n" for i in range(30)), "", "too many to be classes"),
    "a list of columns for one label": ("t.csv", TABLE, "data.label=[label,other]",
                                        "task=multi_label"),
    "a column of labels with a seven": (
        "t.csv", "text,a,b\nx,1,0\ny,7,1\n", "task=multi_label data.label=[a,b]",
        "t.csv:3 has '7'"),
    "one number alone": ("t.csv", NUMBERS[:22], "task=regression", "none for"),
    "all texts empty": ("t.csv", "text,label\n ,pos\n ,neg\n", "", "no example that can be used"),
    "an empty text refused": ("t.csv", TABLE + " ,pos\n", "data.empty=fail", "t.csv:26"),
    "a split that is none": ("t.csv", "text,label,part\na,x,train\nb,y,trian\n",
                             "data.split_column=part", "t.csv:3 has 'trian'"),
    "only a test split": ("t.csv", "text,label,part\na,x,test\nb,y,test\n",
                          "data.split_column=part", "train"),
    "a split column and a file": ("t.csv", TABLE, "data.split_column=label data.test=u.csv",
                                  "exclude each other"),
    "a test file that is not there": ("t.csv", TABLE, "data.test=no.csv", "data.test=no.csv"),
    "a test file that is the same": ("t.csv", TABLE, "data.test=t.csv",
                                     "must not share a file"),
    "a test file without labels": ("t.csv", TABLE, "data.test=bare.csv", "bare.csv", "'label'"),
    "a part of more than all": ("t.csv", TABLE, "data.validation=1.5", "data.validation=1.5"),
    "parts that leave nothing": ("t.csv", TABLE, "data.validation=0.6 data.test=0.6",
                                 "data.test=0.6"),
    "no part to validate on": ("t.csv", TABLE, "data.validation=0", "data.validation"),
    "a negative part": ("t.csv", TABLE, "data.test=-0.1", "data.test=-0.1"),
    "text and label alike": ("t.csv", TABLE, "data.label=text", "name the same column"),
    "a column beyond the last": ("t.csv", TABLE, "data.label=7", "no column 7"),
    "a group that is not there": ("t.csv", TABLE, "data.group=who", "no column 'who'"),
    "a row without a group": ("t.csv", "text,label,who\na,x,\nb,y,2\n", "data.group=who",
                              "t.csv:2"),
    "label names too few": ("t.csv", TABLE, "data.label_names=[pos]", "'neg'"),
    "label names twice": ("t.csv", TABLE, "data.label_names=[pos,neg,pos]", "'pos'"),
    "label names not there": ("t.csv", TABLE, "data.label_names=no.txt", "data.label_names=no.txt"),
    "columns of another table": ("t.csv", TABLE, "data.columns=[a,b,c]", "Received: 3 names"),
    "images of texts": ("t.csv", TABLE, "data.text=null data.image=text", "image"),
    "a batch of more than all": ("t.csv", TABLE, "batch_size=1000", "batch_size", "1000"),
    "augmentation of texts": ("t.csv", TABLE, "augment=light", "augment=none"),
    "a network for images": ("t.csv", TABLE, "backbone=tiny_resnet", "The data is text"),
    "tokens for less than one text": ("t.csv", TABLE, "batch_tokens=4", "batch_tokens", "longest"),
}  # fmt: skip


def command(file: str, further: str) -> str:
    return (
        f"train data=table data.path={file} data.text=text data.label=label backbone=tiny_bert "
        f"batch_size=8 progress=false {further}"
    )


@pytest.mark.every(12)
@pytest.mark.parametrize("name", FILES)
def test_a_table_gets_one_message(name, put, refuses):
    file, content, further, *said = FILES[name]
    put({file: content, "bare.csv": "text\na film\n", "u.csv": TABLE + "odd one,odd\n"})
    # Once the data is sound, what was made of it is kept.
    kept = "prepared" if name.startswith("tokens") else "/"
    refuses(command(file, further), *said, started=True, kept=kept)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no.csv", "data.path=no.csv"),
        ("tt.csv", "Did you mean 't.csv'?"),
        ("no/where/t.csv", "does not exist either"),
        ("t.csv/t.csv", "data.path"),
        ("cache", "a folder"),
        ("'*.tsv'", "data.path=*.tsv"),
        ("'\"\"'", "data.path must be the path"),
        ("x" * 300, "data.path"),
    ],
)
def test_a_path_gets_one_message(path, said, put, refuses):
    put({"t.csv": TABLE})
    refuses(command(path, ""), said, started=True)


def test_an_enormous_cell_is_told_and_its_file_left_alone(put, refuses):
    put({"t.csv": TABLE + '"' + "x" * 3_000_000})
    refuses(command("t.csv", ""), "line 26", "quotes", started=True)
