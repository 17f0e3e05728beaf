"""Tables of images: columns of paths, patterns, the folder that they are looked up under."""

from __future__ import annotations

import pytest
from image_bytes import png

from kerasft.data.sources.table import table
from kerasft.data.tables.image_cells import image_cells
from kerasft.data.tables.reading import Rows
from kerasft.errors import UserError


@pytest.fixture
def kaggle(tmp_path):
    """Return a folder with `train.csv` (id, label) and `images/ID.png`."""
    folder = tmp_path / "kaggle"
    (folder / "images").mkdir(parents=True)
    lines = ["id,label"]
    for i in range(12):
        (folder / "images" / f"{i:03}.png").write_bytes(png(i))
        lines.append(f"{i:03},{'cat' if i % 2 else 'dog'}")
    (folder / "train.csv").write_text("\n".join(lines))
    return folder


def read(folder, **more):
    chosen = {"kind": "single", "seed": 0, "label": "label", "validation": 0.25, "test": 0.25}
    return table(str(folder / "train.csv"), **{**chosen, **more})


def test_a_pattern_makes_paths_of_a_column(kaggle):
    splits = read(kaggle, image="images/{id}.png")
    found = sorted(path for part in splits.parts.values() for path in part.inputs)
    assert found == [str(kaggle / "images" / f"{i:03}.png") for i in range(12)]
    assert "image_root" not in splits.source
    assert {one for part in splits.parts.values() for one in part.ids} == {
        f"train.csv:{line}" for line in range(2, 14)
    }


def test_paths_are_looked_up_under_a_folder(kaggle, tmp_path):
    (kaggle / "images").rename(tmp_path / "images")
    for root in ("images", str(tmp_path / "images")):
        splits = read(kaggle, image="{id}.png", image_root=root)
        assert all(path.startswith(str(tmp_path / "images")) for path in splits.train.inputs)
        assert splits.source["image_root"] == str(tmp_path / "images")
    (tmp_path / "images").rename(kaggle / "beside")
    assert len(read(kaggle, image="{id}.png", image_root="beside").train) == 4


def test_a_pattern_may_hold_the_label_too(kaggle):
    for i in range(12):
        name = "cat" if i % 2 else "dog"
        (kaggle / name).mkdir(exist_ok=True)
        (kaggle / "images" / f"{i:03}.png").rename(kaggle / name / f"{i:03}.png")
    splits = read(kaggle, image="{label}/{id}.png")
    assert sum(map(len, splits.parts.values())) == 12


@pytest.mark.parametrize(
    ("image", "said"),
    [("id", r"train\.csv:2 \(column 'id', '/.*/kaggle/000'\).*data\.image=images/\{id\}\.png"),
     ("{id}.png", r"pattern '\{id\}\.png', '/.*/000\.png'.*set data\.image_root=.*/images\."),
     ("pics/{id}.png", r"Looked for: .*/pics/000\.png.*data\.image_root=DIR"),
     ("images/{ids}.png", "no column 'ids'. Did you mean 'id'?"),
     ("images/{id.png", "names of columns in braces"), ("images/{}.png", "in braces"),
     ("images/id}.png", "in braces")],
)  # fmt: skip
def test_paths_that_lead_nowhere_are_told_with_where_the_images_are(kaggle, image, said):
    with pytest.raises(UserError, match=said):
        read(kaggle, image=image)


def test_single_images_that_cannot_be_used_are_named_with_row_column_and_path(kaggle):
    (kaggle / "images" / "003.png").unlink()
    (kaggle / "images" / "004.png").write_bytes(b"\x89PNG\r\n\x1a\ncut")
    (notice,) = [n for n in read(kaggle, image="images/{id}.png").notices if "left out" in n]
    assert notice.startswith("2 images left out: train.csv:5 (pattern 'images/{id}.png', '/")
    assert "kaggle/images/003.png'): there is no such file" in notice
    assert "train.csv:6" in notice and "broken or cut short" in notice
    lines = (kaggle / "train.csv").read_text().replace("005,", ",")
    (kaggle / "train.csv").write_text(lines)
    with pytest.raises(UserError, match=r"none in 1 row \(pattern .*train\.csv:7 has \{'id': ''\}"):
        read(kaggle, image="images/{id}.png")


def test_cells_become_words_of_a_path(tmp_path):
    cells = {"id": [7, 8.0, "009", None, float("nan")], "{id}": list("abcde")}
    rows = Rows(tmp_path / "a.parquet", tuple(cells), cells, list(range(5)), "row")
    assert image_cells(rows, "{id}.png").values == ["7.png", "8.png", "009.png", None, None]
    # A column that is called so goes before a pattern.
    assert image_cells(rows, "{id}").values == list("abcde")
    assert image_cells(rows, "id").values == [None, None, "009", None, None]


def test_a_root_needs_images(kaggle, monkeypatch):
    monkeypatch.chdir(kaggle)
    with pytest.raises(UserError, match=r"data\.image_root is the folder of the images"):
        table("train.csv", kind="single", seed=0, label="label", text="id", image_root="c")


def test_a_pattern_needs_no_second_quotes(kaggle, kerasft_cli):
    words = ["data=table", f"data.path={kaggle / 'train.csv'}", "data.label=label",
             "backbone=tiny_resnet"]  # fmt: skip
    for image in ("images/{id}.png", "{id}.png", '"images/{id}.png"'):
        ended = kerasft_cli("check", *words, f"data.image={image}", "--show")
        assert ended.code == 0, ended.err
        assert image.strip('"') in ended.out
