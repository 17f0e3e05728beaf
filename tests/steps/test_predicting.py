"""`predict --data`: tables with the columns of a run, folders, rows that cannot be answered."""

from __future__ import annotations

import csv
import json

import pytest
from image_bytes import png

import kerasft
from kerasft.data import unlabeled
from kerasft.data.annotations.truths import truths
from kerasft.data.tables.reading import Layout
from kerasft.data.unlabeled import Columns
from kerasft.errors import UserError
from kerasft.spec import Labels
from kerasft.steps import predicting
from kerasft.steps.predicting import read


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
     (["--data", "."], "must be a table for this model, which takes texts"),
     (["--data", "test.csv", "data.text=ID", "--output", "a.xls"], "must end in .csv, .jsonl or"),
     (["--id", "ID", "a text"], "--id names a column of the table of --data"),
     (["--data", "empty.csv"], "No row of"), (["--data", "none.csv"], "holds no rows")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_loaded(
    kerasft_cli, tiny_text_run, texts, tmp_path, words, said, monkeypatch
):
    monkeypatch.setattr("kerasft.steps.answering.open_predictor", None)
    (tmp_path / "empty.csv").write_text("text\n \n\t\n")
    (tmp_path / "none.csv").write_text("text\n")
    ended = kerasft_cli("predict", str(tiny_text_run), *words)
    assert ended.code == 2 and said in ended.err
    assert not (tmp_path / "a.csv").exists()


# --- images ----------------------------------------------------------------------------------


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
    assert asked.found.inputs[0] == str(tmp_path / "test_images" / "000.png")
    with pytest.raises(UserError, match=r"data\.image_root: there is no file or folder"):
        read(str(tiny_run), "kaggle/test.csv", [*words, "data.image_root=nowhere"])


def test_images_of_a_folder_are_named_by_their_paths(kerasft_cli, tiny_run, images, tmp_path):
    ended = kerasft_cli("predict", str(tiny_run), "--data", "kaggle", "--output", "a.parquet")
    assert ended.code == 1, ended.err
    assert "images/003.png: it is PNG that is broken or cut short" in ended.err
    import pyarrow.parquet

    found = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["id"] for row in found] == [f"images/00{i}.png" for i in range(4)]
    assert found[3]["label"] is None and found[0]["label"]
    with pytest.raises(UserError, match="are about a table"):
        read(str(tiny_run), "kaggle", ["data.text=a"])


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
    found = unlabeled.from_folder(tmp_path / "t", names=("cat", "dog"))
    assert found.values == ["cat", None]
    made, said = truths(found.values, found.ids, Labels("multi", ("cat", "dog")))
    assert (made, said) == ([["cat"], None], [])


def test_masks_are_no_images_to_answer(tmp_path):
    for name in ("images/1.png", "masks/1.png", "images/2.png", "images/2_mask.png"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_bytes(png(1))
    found = unlabeled.from_folder(tmp_path / "t", masks="masks")
    assert list(found.ids) == ["images/1.png", "images/2.png"]
    assert found.notices == ["2 masks left out, which are no images to answer."]


# --- tables without a model --------------------------------------------------------------------


def ask(file, content, columns, **more):
    file.write_text(content)
    return unlabeled.from_table(file, columns, Layout(), **more)


def test_pairs_lack_either_text(tmp_path):
    found = ask(tmp_path / "a.csv", "a,b\n1,2\n,3\n4,\n", Columns("a", "b"))
    assert found.inputs[0] == ("1", "2")
    assert sorted(found.problems) == [1, 2]
    assert "column 'b'" in found.problems[2]


def test_ids_that_are_missing_or_double_are_said(tmp_path):
    found = ask(tmp_path / "a.csv", "id,t\n1,x\n,y\n1,z\n", Columns("t"))
    assert found.ids == ["1", "a.csv:3", "1"]
    assert len(found.notices) == 2


def test_images_of_boxes_are_answered_once(tmp_path):
    (tmp_path / "1.png").write_bytes(png(1))
    table = "f,x\n1.png,0\n1.png,5\n2.png,1\n"
    found = ask(tmp_path / "a.csv", table, Columns(image="f"), once=True)
    assert (found.ids, found.problems) == (["a.csv:2", "a.csv:4"], {1: "there is no such file"})


def test_a_header_that_is_taken_for_a_row_is_doubted(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,x\n")
    found = unlabeled.from_table(tmp_path / "a.csv", Columns(1), Layout(header=False))
    assert "set data.header=true" in found.notices[0]


def test_labels_that_the_model_does_not_know_are_left_out_with_a_word():
    made, said = truths(["x", "y"], ["a:1", "a:2"], Labels("single", ("y", "n")))
    assert made == [None, None] and "not shown beside the answers" in said[0]
    labels = Labels("numbers", ("w", "h"))
    assert truths([(1, 2), None], ["a:1", "a:2"], labels)[0] == [
        {"w": 1.0, "h": 2.0}, {"w": None, "h": None}
    ]  # fmt: skip
    assert truths(["0.5"], ["a:1"], Labels("number"))[0] == [0.5]
