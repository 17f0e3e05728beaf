"""Folders of tables: shards, saved data sets, images with metadata."""

import json

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hub_files import described, reviews, save_splits, save_to_disk, write_shards
from image_bytes import png
from table_files import ask, fails

from kerasft.data.sources.image_folder import image_folder
from kerasft.errors import UserError


def sizes(splits):
    return {name: len(part) for name, part in splits.parts.items()}


@pytest.fixture
def hub(tmp_path):
    """A data set as the Hub keeps it, with a test that hides its labels."""
    folder = tmp_path / "reviews"
    shards = [reviews(20, 20 * i) for i in range(3)]
    write_shards(folder / "data", "train", shards)
    write_shards(folder / "data", "validation", [reviews(10, 60)])
    write_shards(folder / "data", "test", [reviews(8, 70, hidden=True)])
    (folder / "README.md").write_text("about")
    (folder / "dataset_infos.json").write_text("{}")
    return folder


def test_shards_of_a_folder_are_the_splits(hub):
    splits = ask(hub)
    assert sizes(splits) == {"train": 52, "validation": 10, "test": 8}
    assert splits.labels.names == ("negative", "positive")
    assert "train/train-00000-of-00003.parquet:2" in splits.train.ids
    assert len(splits.source["files"]["train"]) == 3
    assert splits.notices == (
        "none of the 8 examples of test has a label (all -1 or empty), so it is left out; "
        "data.test=0.15 of the training examples takes its place.",
    )
    assert ask(hub, test=0).test is None
    assert "none is made" in ask(hub, test=0).notices[0]


def test_files_by_a_pattern(hub):
    data = hub / "data"
    splits = ask(data / "train-*.parquet", validation=str(data / "valid*"), test=0.1)
    assert sizes(splits) == {"train": 54, "validation": 10, "test": 6}
    assert "no file fits the pattern" in fails(data / "tra1n-*")
    assert "must not share a file" in fails(data / "train-*", test="*.parquet")
    assert "data.test: none of the 8 examples of test has a label" in fails(
        data / "train-*", test="test-*"
    )
    (data / "train-00001-of-00003.parquet").unlink()
    notice = "1 of 3 files are missing, and the rest is read: train-00001-of-00003."
    assert notice in ask(data / "train-*.parquet").notices


def test_what_belongs_to_no_split_is_left_out(hub):
    write_shards(hub / "data", "validation_matched", [reviews(10, 60)])
    assert "left out: validation_matched" in ask(hub).notices[0]
    (hub / "train.csv").write_text("text,label\n")
    assert any("others were left out: train.csv" in said for said in ask(hub).notices)
    write_shards(hub / "more", "train", [reviews(10)])
    assert "holds several data sets: data, more. Name one of them" in fails(hub)


def test_files_in_the_folders_of_their_splits(tmp_path):
    for split, start in (("train", 0), ("test", 40)):
        (tmp_path / "plain" / split).mkdir(parents=True)
        pyarrow.parquet.write_table(
            reviews(40, start), tmp_path / "plain" / split / "0000.parquet"
        )
    splits = ask(tmp_path)
    assert sizes(splits) == {"train": 34, "validation": 6, "test": 40}
    assert splits.test.ids[0] == "test/0000.parquet:1"


def test_texts_in_files_that_are_called_after_splits(tmp_path):
    for split, start in (("train", 0), ("dev", 40)):
        rows = [f"text {i},{'ab'[i % 2]}" for i in range(start, start + 40)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    assert sizes(ask(tmp_path, test=0)) == {"train": 40, "validation": 40}
    (tmp_path / "train.csv").rename(tmp_path / "one.csv")
    assert "brings no split to train on. Received: validation, one.csv" in fails(tmp_path)
    (tmp_path / "dev.csv").rename(tmp_path / "two.csv")
    assert "must be a file of one of the formats" in fails(tmp_path)


def test_a_saved_data_set(tmp_path):
    one = tmp_path / "one"
    save_to_disk(one, [reviews(20), reviews(20, 20)])
    assert sizes(ask(one)) == {"train": 28, "validation": 6, "test": 6}
    save_splits(tmp_path / "all", train=[reviews(30)], test=[reviews(10, 30)], more=[reviews(5)])
    splits = ask(tmp_path / "all")
    assert sizes(splits) == {"train": 26, "validation": 4, "test": 10}
    assert splits.labels.names == ("negative", "positive") and "more" in splits.notices[0]
    assert sizes(ask(one, test=str(tmp_path / "all" / "test")))["test"] == 10
    assert "brings several splits" in fails(one, test=str(tmp_path / "all"))
    pyarrow.feather.write_feather(reviews(40), tmp_path / "a.feather")
    assert sizes(ask(tmp_path / "a.feather")) == {"train": 28, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("dataset_dict.json", {"splits": ["../one"]}, "must list the folders of the splits"),
        ("dataset_dict.json", {"splits": "train"}, "must list the folders of the splits"),
        ("dataset_dict.json", {"splits": ["train", "test", "dev"]}, "dev lacks state.json"),
        ("dataset_dict.json", [], "it must hold one JSON object"),
        ("train/state.json", {"_data_files": [{"filename": "/etc/passwd"}]}, "the files beside it"),
        ("train/state.json", {"_data_files": [{"filename": ".."}]}, "the files beside it"),
        ("train/state.json", {"_data_files": [3]}, "the files beside it"),
        ("train/state.json", {"_data_files": None}, "the files beside it"),
        ("train/state.json", {"_data_files": [{"filename": "no.arrow"}]}, "not there: no.arrow"),
        ("train/state.json",
         {"_data_files": [{"filename": "a"}], "_indices_data_files": [{"filename": "b"}]},
         "flatten_indices()"),
    ],
)  # fmt: skip
def test_a_saved_data_set_names_nothing_else(tmp_path, file, content, said):
    save_splits(tmp_path / "all", train=[reviews(30)], test=[reviews(10, 30)])
    (tmp_path / "all" / file).write_text(json.dumps(content))
    assert said in fails(tmp_path / "all")


def test_broken_files(tmp_path):
    save_to_disk(tmp_path / "a", [reviews(30)])
    file = tmp_path / "a" / "data-00000-of-00001.arrow"
    whole = file.read_bytes()
    for content in (b"", b"x" * 10, whole[: len(whole) // 2]):
        file.write_bytes(content)
        assert "is no Arrow file, or broken" in fails(file)
    offsets, latin = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xff")
    odd = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, latin])
    pyarrow.parquet.write_table(pyarrow.table({"text": odd, "label": [0]}), tmp_path / "a.parquet")
    assert "is no Parquet file, or broken (" in fails(tmp_path / "a.parquet")


def test_classes_by_number(tmp_path):
    file = tmp_path / "a.parquet"

    def write(labels, features):
        columns = {"text": [f"t{i}" for i in range(len(labels))], "label": labels}
        pyarrow.parquet.write_table(described(columns, features), file)

    names = {"names": ["ant", "bee", "c, d"], "_type": "ClassLabel"}
    write([0, 2] * 15, {"label": names})
    splits = ask(file)
    assert splits.labels.names == ("ant", "bee", "c, d")
    assert set(splits.train.labels) == {0, 2}
    assert ask(file, kind="multi").labels.names == ("ant", "bee", "c, d")
    assert ask(file, label_names=["x", "y", "z"]).labels.names == ("x", "y", "z")
    assert set(ask(file, kind="number").train.labels) == {0.0, 2.0}
    write([0, 2] * 15 + [3], {"label": names})
    assert "from 0 to 2, but 1 label is none of them: a.parquet:31 has 3" in fails(file)
    write([0, 2] * 15 + [-1], {"label": names})
    assert "empty or NaN: a.parquet:31" in fails(file)
    for lists in ({"feature": names, "_type": "Sequence"}, [names],
                  {"feature": names, "_type": "List"}):  # fmt: skip
        write([[0], [0, 1], [], [2]] * 10, {"label": lists})
        splits = ask(file, kind="multi")
        rows = zip(splits.train.inputs, splits.train.labels.tolist(), strict=True)
        known = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
        assert all(row == known[int(text[1:]) % 4] for text, row in rows)
    for nonsense in (3, [], {"label": {"names": [1, 2], "_type": "ClassLabel"}}):
        write([0, 1] * 15, nonsense)
        assert ask(file).labels.names == ("0", "1")


def test_files_that_name_other_classes(tmp_path):
    write_shards(tmp_path, "train", [reviews(30)])
    other = described({"text": ["a", "b"], "label": [0, 1]},
                      {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}})  # fmt: skip
    write_shards(tmp_path, "test", [other])
    assert "name other classes: negative, positive, and no, yes" in fails(tmp_path)
    assert ask(tmp_path, label_names=["n", "p"]).labels.names == ("n", "p")


IMAGES = [png(i) for i in range(30)]


def test_images_in_tables(tmp_path):
    cells = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(IMAGES)]
    table = described({"image": cells, "label": [0, 1] * 15})
    write_shards(tmp_path, "train", [table])
    splits = ask(tmp_path, text=None, image="image")
    assert splits.train.inputs[0] in IMAGES
    assert "hold something else" in fails(tmp_path, text="image")
    file = tmp_path / "by_path.parquet"
    for path in ("/etc/a.png", "../a.png", "~/a.png"):
        cells[3] = {"bytes": None, "path": path}
        pyarrow.parquet.write_table(described({"image": cells, "label": [0, 1] * 15}), file)
        assert f"leads out of the folder of {file}" in fails(file, text=None, image="image")
    (tmp_path / "a.png").write_bytes(IMAGES[3])
    cells[3] = {"bytes": None, "path": "a.png"}
    pyarrow.parquet.write_table(described({"image": cells, "label": [0, 1] * 15}), file)
    assert sum(map(len, ask(file, text=None, image="image").parts.values())) == 30


@pytest.fixture
def images(tmp_path):
    """Images below folders of splits, with what they show in the one table of each."""
    folder = tmp_path / "insects"
    for split, numbers in (("train", range(20)), ("test", range(20, 30))):
        (folder / split).mkdir(parents=True)
        rows = []
        for i in numbers:
            (folder / split / f"{i}.png").write_bytes(IMAGES[i])
            rows.append({"file_name": f"{i}.png", "label": ["ant", "bee"][i % 2], "size": i / 2,
                         "tags": [["small"], ["small", "red"]][i % 2]})  # fmt: skip
        text = "\n".join(map(json.dumps, rows))
        (folder / split / "metadata.jsonl").write_text(text)
    return folder


def test_images_with_metadata(images):
    splits = ask(images, text=None)
    assert sizes(splits) == {"train": 16, "validation": 4, "test": 10}
    assert splits.labels.names == ("ant", "bee")
    assert splits.test.ids[0] == "test/metadata.jsonl:1"
    assert splits.test.inputs[0] == str(images / "test" / "20.png")
    assert ask(images, text=None, kind="number", label="size").test.labels[1] == 10.5
    assert ask(images, text=None, kind="multi", label="tags").labels.names == ("red", "small")
    with pytest.raises(UserError, match=r"set data=table data\.path=\S+ data\.label=COLUMN\."):
        image_folder(str(images), kind="single", seed=0)


def test_one_table_for_images_in_folders_of_splits(tmp_path, images):
    rows = ["file_name,label"]
    for split in ("train", "test"):
        lines = (images / split / "metadata.jsonl").read_text().splitlines()
        (images / split / "metadata.jsonl").unlink()
        rows += [f"{split}/{json.loads(line)['file_name']},{'ab'[i % 2]}"
                 for i, line in enumerate(lines)]  # fmt: skip
    table = images / "metadata.csv"
    table.write_text("\n".join(rows))
    assert sizes(ask(images, text=None)) == {"train": 16, "validation": 4, "test": 10}
    table.write_text("\n".join(rows[:-1]))
    assert ask(images, text=None).notices == (
        f"1 image in no row of {table}, left out: test/29.png.",
    )
    for path in ("/etc/passwd", "../out.png", "train/../../out.png"):
        table.write_text("\n".join([*rows, f"{path},a"]))
        assert f"leads out of the folder of {table}" in fails(images, text=None)
    table.write_text("\n".join(rows))
    (tmp_path / "out.png").write_bytes(png(99))
    (images / "train" / "0.png").unlink()
    (images / "train" / "0.png").symlink_to(tmp_path / "out.png")
    assert "1 link out of" in ask(images, text=None).notices[0]
    (images / "metadata.jsonl").write_text("{}")
    assert "holds several tables of its images" in fails(images, text=None)
