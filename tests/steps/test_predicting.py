"""`predict --data`: tables with the columns of a run, folders, rows that cannot be answered."""

from __future__ import annotations

import csv
import json

import hub_files
import pytest
from image_bytes import png

import kerasft
from kerasft.data import unlabeled
from kerasft.data.annotations.truths import truths
from kerasft.data.tables.parts import Parts
from kerasft.data.tables.reading import Layout
from kerasft.data.unlabeled_tables import Columns, Wanted, from_tables
from kerasft.errors import UserError
from kerasft.spec import Labels
from kerasft.steps.answers import predicting
from kerasft.steps.answers.asked import read


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def texts(tmp_path):
    """Return a table without labels, in which two rows of four have no text."""
    file = tmp_path / "test.csv"
    file.write_text("ID,text\n07,a good film\n08,\n09,a bad film\n10, \n")
    return file


@pytest.fixture
def images(tmp_path):
    """Return a folder of images, one of which is broken, with `test.csv`: `id` alone."""
    folder = tmp_path / "kaggle"
    (folder / "images").mkdir(parents=True)
    for i in range(3):
        (folder / "images" / f"{i:03}.png").write_bytes(png(i))
    (folder / "images" / "003.png").write_bytes(png(3)[:60])
    (folder / "test.csv").write_text("id\n000\n001\n002\n003\n004\n")
    return folder


# --- texts -------------------------------------------------------------------------------------


def test_rows_keep_their_order_and_ids_and_the_bad_ones_say_why(
    kerasft_cli, tiny_text_run, texts, tmp_path, monkeypatch
):
    monkeypatch.setattr(predicting, "TEXTS", 1)  # in pieces
    ended = kerasft_cli("predict", str(tiny_text_run), "--data", "test.csv", "--output", "a.csv")
    assert ended.code == 1
    assert ended.out == "4 rows in a.csv\n"
    assert "not answered: test.csv:3: the text is empty (column 'text')" in ended.err
    assert "2 of 4 rows were not answered; a.csv says why each" in ended.err
    found = rows_of(tmp_path / "a.csv")
    assert [row["id"] for row in found] == ["07", "08", "09", "10"]
    assert list(found[0]) == [
        "id", "input", "label", "score", "probabilities_neg", "probabilities_pos", "error"
    ]  # fmt: skip
    assert found[0]["label"] and not found[0]["error"]
    assert found[1]["error"].startswith("the text is empty") and not found[1]["label"]
    # The same answers as those of the function, and of words.
    again = list(kerasft.predict_data(str(tiny_text_run), str(texts)))
    (word,) = kerasft.predict(str(tiny_text_run), ["a good film"])
    assert again[0]["probabilities"] == pytest.approx(word["probabilities"])
    assert float(found[0]["score"]) == pytest.approx(word["score"])
    assert again[1] == {"id": "08", "input": "", "error": found[1]["error"]}


@pytest.mark.slow
def test_labels_that_are_there_stand_beside_the_answers(tiny_text_run, tmp_path):
    (tmp_path / "dev.jsonl").write_text(
        '{"text": "a good film", "label": "pos"}\n{"text": "a film", "label": null}\n'
        '{"text": "a bad film", "label": "neg"}\n'
    )
    first, second, third = kerasft.predict_data(str(tiny_text_run), "dev.jsonl")
    assert (first["id"], third["id"]) == ("dev.jsonl:1", "dev.jsonl:3")
    assert (first["true"], second["true"], third["true"]) == ("pos", None, "neg")
    assert first["true_probability"] == first["probabilities"]["pos"]
    assert second["true_probability"] is None


@pytest.mark.slow
def test_what_is_written_otherwise_is_said_with_overrides(kerasft_cli, tiny_text_run, tmp_path):
    (tmp_path / "x.csv").write_text("nr;review\n3;a good film\n4;a bad film\n")
    run = str(tiny_text_run)
    ended = kerasft_cli("predict", run, "--data", "x.csv")
    assert ended.code == 2 and "separated by ';': set data.delimiter=';'" in ended.err
    ended = kerasft_cli("predict", run, "--data", "x.csv", 'data.delimiter=";"')
    assert ended.code == 2 and "has no column 'text'" in ended.err and "'review'" in ended.err
    ended = kerasft_cli("predict", run, "--data", "x.csv", "--id", "nr", "--json",
                        'data.delimiter=";"', "data.text=review")  # fmt: skip
    assert ended.code == 0, ended.err
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == ["3", "4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--data", "no.csv"], "--data: there is no file or folder of that name"),
     (["--data", "test.csv", "a text"], "must read data.KEY=VALUE"),
     (["--data", "test.csv", "data.txt=a"], "Did you mean 'data.text'?"),
     (["--data", "test.csv", "data.split=hash"], "says nothing of how a table is read"),
     (["--data", "test.csv", "--id", "nr"], "--id: "),
     (["--data", "nothing"], "must be a table for this model, which takes texts"),
     (["--data", "*.tsv"], "no file fits the pattern"),
     (["--data", "a.tfrecord-00000-of-00001"], "TFRecord files are read for training alone"),
     (["--data", "mixed.txt", "data.format=lines"], "2 begin with a label of the"),
     (["--data", "test.csv", "data.text=ID", "--output", "a.xls"], "must end in .csv, .jsonl or"),
     (["--id", "ID", "a text"], "--id names a column of the table of --data"),
     (["--data", "empty.csv"], "No row of"), (["--data", "none.csv"], "holds no rows")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_loaded(
    kerasft_cli, tiny_text_run, texts, tmp_path, words, said, monkeypatch
):
    monkeypatch.setattr("kerasft.steps.answers.answering.open_predictor", None)
    (tmp_path / "empty.csv").write_text("text\n \n\t\n")
    (tmp_path / "none.csv").write_text("text\n")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "a.tfrecord-00000-of-00001").touch()
    (tmp_path / "mixed.txt").write_text("pos a film\n\na film\nneg another\n")
    ended = kerasft_cli("predict", str(tiny_text_run), *words)
    assert ended.code == 2 and said in ended.err
    assert not (tmp_path / "a.csv").exists()


# --- images ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_images_of_a_table_by_a_pattern(kerasft_cli, tiny_run, images, tmp_path):
    ended = kerasft_cli(
        "predict", str(tiny_run), "--data", "kaggle/test.csv", "data.image=images/{id}.png",
        "--output", "a.jsonl",
    )  # fmt: skip
    assert ended.code == 1
    assert "test.csv:5 (pattern 'images/{id}.png', '/" in ended.err
    assert "kaggle/images/004.png'): there is no such file" in ended.err
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["id"] for row in found] == ["000", "001", "002", "003", "004"]
    assert [bool(row["error"]) for row in found] == [False] * 3 + [True] * 2
    assert found[0]["input"] == str(images / "images" / "000.png")
    (alone,) = kerasft.predict(str(tiny_run), [str(images / "images" / "001.png")])
    assert found[1]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_images_elsewhere(tiny_run, images, tmp_path):
    (images / "images").rename(tmp_path / "test_images")
    words = ["data.image={id}.png"]
    with pytest.raises(UserError, match=r"Looked for: test\.csv:2 .*/kaggle/000\.png"):
        read(str(tiny_run), "kaggle/test.csv", words)
    asked = read(str(tiny_run), "kaggle/test.csv", [*words, "data.image_root=test_images"])
    assert next(asked.parts()).inputs[0] == str(tmp_path / "test_images" / "000.png")
    with pytest.raises(UserError, match=r"data\.image_root: there is no file or folder"):
        read(str(tiny_run), "kaggle/test.csv", [*words, "data.image_root=nowhere"])


@pytest.mark.slow
def test_images_of_a_folder_are_named_by_their_paths(kerasft_cli, tiny_run, images, tmp_path):
    ended = kerasft_cli("predict", str(tiny_run), "--data", "kaggle", "--output", "a.parquet")
    assert ended.code == 1, ended.err
    assert "images/003.png: it is PNG that is broken or cut short" in ended.err
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["id"] for row in found] == [f"images/00{i}.png" for i in range(4)]
    assert found[3]["label"] is None and found[0]["label"]
    with pytest.raises(UserError, match="are about a table"):
        read(str(tiny_run), "kaggle/images", ["data.image=a"])
    # Where columns are told, the table in the folder is meant.
    found = read(str(tiny_run), "kaggle", ["data.image=images/{id}.png"])
    assert next(found.parts()).ids[0] == "000"


@pytest.mark.slow
def test_where_no_image_can_be_read_nothing_is_written(kerasft_cli, tiny_run, tmp_path):
    (tmp_path / "q").mkdir()
    for i in range(2):
        (tmp_path / "q" / f"{i}.png").write_bytes(png(i)[:60])
    ended = kerasft_cli("predict", str(tiny_run), "--data", "q", "--output", "a.csv")
    assert ended.code == 2 and "q/" not in ended.err and "0.png: it is PNG" in ended.err
    assert not list(tmp_path.glob("*a*.csv"))


def test_folders_named_like_classes_are_labels(tmp_path):
    for name in ("cat", "other"):
        (tmp_path / "t" / name).mkdir(parents=True)
        (tmp_path / "t" / name / "1.png").write_bytes(png(1))
    found = unlabeled.from_folder(tmp_path / "t", labels=Labels("multi", ("cat", "dog")))
    assert next(found.parts()).true == [["cat"], None]
    assert found.labelled


def test_masks_are_no_images_to_answer(tmp_path):
    for name in ("images/1.png", "masks/1.png", "images/2.png", "images/2_mask.png"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_bytes(png(1))
    found = unlabeled.from_folder(tmp_path / "t", masks="masks")
    assert list(next(found.parts()).ids) == ["images/1.png", "images/2.png"]
    assert found.notices == ["2 masks left out, which are no images to answer."]


# --- tables without a model --------------------------------------------------------------------


LABELS = Labels("single", ("neg", "pos"))


def asked(*files, columns, layout=None, most=1 << 24, labels=LABELS, **more):
    """Return what is to be answered, all of its rows, and why some cannot be."""
    layout = layout or Layout()
    parts = [(file.name, Parts(file, layout, "--data", most=most)) for file in files]
    found = from_tables(parts, Wanted(columns, labels, **more))
    made = list(found.parts())
    joined = [one for part in made for one in zip(part.inputs, part.ids, part.true, strict=True)]
    assert len(joined) == len(found)
    problems = [why for part in made for _, why in sorted(part.problems.items())]
    return found, joined, problems


def written(file, content):
    file.write_text(content, newline="")
    return file


def test_pairs_lack_either_text(tmp_path):
    file = written(tmp_path / "a.csv", "a,b\n1,2\n,3\n4,\n")
    _, rows, problems = asked(file, columns=Columns("a", "b"))
    assert rows[0][0] == ("1", "2")
    assert len(problems) == 2 and "column 'b'" in problems[1]


def test_ids_that_are_missing_or_double_are_said(tmp_path):
    file = written(tmp_path / "a.csv", "id,t\n1,x\n,y\n1,z\n")
    found, rows, _ = asked(file, columns=Columns("t"))
    assert [one[1] for one in rows] == ["1", "a.csv:3", "1"]
    missing, double = found.notices
    assert missing == "1 row without an id (column 'id'), named by the place: a.csv:3."
    assert double == "ids that more than one row has (column 'id'): '1'."


def test_images_of_boxes_are_answered_once(tmp_path):
    (tmp_path / "1.png").write_bytes(png(1))
    file = written(tmp_path / "a.csv", "f,x\n1.png,0\n1.png,5\n2.png,1\n1.png,7\n")
    _, rows, problems = asked(file, columns=Columns(image="f"), once=True, most=9)
    assert [one[1] for one in rows] == ["a.csv:2", "a.csv:4"]
    assert problems == ["there is no such file"]


def test_a_header_that_is_taken_for_a_row_is_doubted(tmp_path):
    file = written(tmp_path / "a.csv", "id,text\n1,x\n")
    found, _, _ = asked(file, columns=Columns(1), layout=Layout(header=False))
    assert "set data.header=true" in found.notices[0]


@pytest.mark.parametrize("most", [1, 7, 30, 1 << 24])
def test_a_table_in_parts_is_the_same(most, tmp_path):
    import pyarrow
    import pyarrow.parquet

    texts = ["a film, good", "two\nlines", 'a "quote"', "d\u00e9j\u00e0 vu", "", "x" * 40]
    ids = [f"{i:02}" for i in range(6)]
    true = ["pos", "neg", "pos", "neg", None, "pos"]
    rows = list(zip(ids, texts, true, strict=True))
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-16") as file:
        csv.writer(file).writerows([("id", "text", "label"), *rows])
    lines = [json.dumps({"id": i, "text": t, **({"label": y} if y else {})}) for i, t, y in rows]
    written(tmp_path / "a.jsonl", "\n".join(lines))
    table = pyarrow.table(dict(zip(("id", "text", "label"), zip(*rows, strict=True), strict=True)))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    with pyarrow.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    for suffix in ("csv", "jsonl", "parquet", "arrow"):
        found, made, problems = asked(
            tmp_path / f"a.{suffix}", columns=Columns("text", label="label"), most=most,
            layout=Layout(encoding="utf-16" if suffix == "csv" else "utf-8"),
        )  # fmt: skip
        assert made == [(t, i, y) for i, t, y in rows], suffix
        assert found.labelled and len(problems) == 1
        parts = sum(1 for _ in found.parts())
        assert parts > 1 if most < 8 else parts >= 1


def test_line_numbers_go_on_from_part_to_part(tmp_path):
    file = written(tmp_path / "a.csv", 'text\n\na\n"b\nb"\nc\n\n"d\n')
    with pytest.raises(UserError, match=r"a\.csv, line 8: the quotes do not pair up"):
        asked(file, columns=Columns("text"), most=2)
    file = written(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n{"text"\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 4 is no JSON"):
        asked(file, columns=Columns("text"), most=3)
    (tmp_path / "b.csv").write_bytes(b"text\na\nb\xe9\nc\n")
    with pytest.raises(UserError, match=r"byte 8 \(0xe9, in line 3\) is none of it"):
        asked(tmp_path / "b.csv", columns=Columns("text"), most=4)


def test_labels_of_a_later_part_that_the_model_does_not_know_are_not_shown(tmp_path):
    file = written(tmp_path / "a.csv", "text,label\na,pos\nb,neg\nc,odd\n")
    found, rows, _ = asked(file, columns=Columns("text", label="label"), most=6)
    assert not found.labelled and {one[2] for one in rows} == {None}
    assert "not shown beside the answers" in found.notices[0]


def test_a_table_that_is_written_meanwhile_is_told(tmp_path):
    file = written(tmp_path / "a.csv", "text\na\n")
    found, _, _ = asked(file, columns=Columns("text"))
    written(file, "text\na\nb\n")
    with pytest.raises(UserError, match="has changed while it was read"):
        list(found.parts())


def test_a_pipe_is_read_once(tmp_path):
    import os
    import threading

    os.mkfifo(tmp_path / "a.csv")
    writer = threading.Thread(target=(tmp_path / "a.csv").write_text, args=("text\na\nb\n",))
    writer.start()
    _, rows, _ = asked(tmp_path / "a.csv", columns=Columns("text"))
    writer.join()
    assert [one[0] for one in rows] == ["a", "b"]


def test_lines_need_no_labels(tmp_path):
    file = tmp_path / "a.txt"

    def read_lines(content, labels=LABELS, is_label=("pos", "neg").__contains__):
        parts = [("a.txt", Parts(written(file, content), Layout("lines"), "--data", is_label))]
        found = from_tables(parts, Wanted(Columns("review", label="stars"), labels))
        (part,) = found.parts()
        return list(zip(part.inputs, part.true, strict=True)), found.notices

    rows, said = read_lines("a film\n\npositive it is\n")
    assert rows == [("a film", None), ("positive it is", None)]
    assert "begins with a label of the model, so each line is taken as a text" in said[0]
    assert read_lines("pos a film\nneg b\n") == ([("a film", "pos"), ("b", "neg")], [])
    marked = "__label__pos a film\nb film\nc __label__neg\n"
    assert read_lines(marked)[0] == [("a film", "pos"), ("b film", None), ("c", "neg")]
    several = read_lines("__label__pos __label__neg a\nb\n", Labels("multi", ("neg", "pos")))
    assert several[0] == [("a", ["neg", "pos"]), ("b", None)]


# --- folders and patterns of tables -----------------------------------------------------------


@pytest.mark.slow
def test_shards_of_the_hub(kerasft_cli, tiny_text_run, tmp_path):
    folder = tmp_path / "hub" / "data"
    hub_files.write_shards(folder, "train", [hub_files.reviews(3)])
    hub_files.write_shards(folder, "test", [hub_files.reviews(2, hidden=True),
                                            hub_files.reviews(2, 2, hidden=True)])  # fmt: skip
    run = str(tiny_text_run)
    ended = kerasft_cli("predict", run, "--data", "hub/data/test-*", "--output", "a.csv")
    assert (ended.code, ended.out) == (0, "4 rows in a.csv\n"), ended.err
    found = rows_of(tmp_path / "a.csv")
    assert [row["input"] for row in found] == [f"text {i}" for i in range(4)]
    assert found[2]["id"] == "test-00001-of-00002.parquet:1"
    assert "true" not in found[0]  # all labels are -1

    ended = kerasft_cli("predict", run, "--data", "hub", "--output", "a.csv")
    assert ended.code == 0 and "hub holds train, test, and all of them are answered" in ended.err
    found = rows_of(tmp_path / "a.csv")
    assert found[0]["id"] == "train/train-00000-of-00001.parquet:1"
    assert found[-1]["id"] == "test/test-00001-of-00002.parquet:2"


def test_saved_data_sets(tiny_text_run, tmp_path):
    hub_files.save_splits(tmp_path / "d", odd=[hub_files.reviews(2)], test=[hub_files.reviews(3)])
    assert len(read(str(tiny_text_run), "d")) == 5
    assert len(read(str(tiny_text_run), "d/test")) == 3


def test_class_numbers_are_those_of_the_table(tmp_path):
    """The data may list its classes in another order than the run."""
    import pyarrow.parquet

    names = {"label": {"names": ["pos", "neg"], "_type": "ClassLabel"}}
    table = hub_files.described({"text": ["a", "b", "c"], "label": [0, 1, -1]}, names)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    _, rows, _ = asked(tmp_path / "a.parquet", columns=Columns("text", label="label"))
    assert [one[2] for one in rows] == ["pos", "neg", None]


@pytest.mark.slow
def test_a_folder_with_a_table_of_its_images(kerasft_cli, tiny_run, tmp_path):
    folder = tmp_path / "photos" / "test"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(i))
    names = ["0.png", "1.png", "../secret.png", "9.png"]
    (folder / "metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": name}) + "\n" for name in names)
    )
    words = ["data.image=file_name"]
    ended = kerasft_cli(
        "predict", str(tiny_run), "--data", "photos/test", *words, "--output", "a.csv"
    )
    assert ended.code == 1
    assert "1 image in no row of" in ended.err and "metadata.jsonl, left out: 2.png" in ended.err
    assert "the path '../secret.png' leads out of the folder" in ended.err
    assert "there is no such file" in ended.err
    found = rows_of(tmp_path / "a.csv")
    assert [row["id"] for row in found] == names
    # Without a word on columns a run on images in a folder answers all of them.
    assert next(read(str(tiny_run), "photos").parts()).ids == [f"test/{i}.png" for i in range(3)]
    assert next(read(str(tiny_run), "photos", words).parts()).ids == names


def test_labels_that_the_model_does_not_know_are_left_out_with_a_word():
    made, said = truths(["x", "y"], ["a:1", "a:2"], Labels("single", ("y", "n")))
    assert made == [None, None] and "not shown beside the answers" in said[0]
    labels = Labels("numbers", ("w", "h"))
    assert truths([(1, 2), None], ["a:1", "a:2"], labels)[0] == [
        {"w": 1.0, "h": 2.0}, {"w": None, "h": None}
    ]  # fmt: skip
    assert truths(["0.5"], ["a:1"], Labels("number"))[0] == [0.5]
    assert truths([["y"], ["y", "n"]], ["a:1", "a:2"], Labels("single", ("y", "n")))[1]
