"""`kerasft show`: what the network sees is what the pipeline makes, and all of it can be read."""

from __future__ import annotations

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageColor

import kerasft
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches
from kerasft.data.store import Store
from kerasft.errors import UserError
from kerasft.evaluation import contact_sheet
from kerasft.evaluation.contact_sheet import GAP
from kerasft.evaluation.images import colour_of
from kerasft.model.preprocess import ImagePreprocess
from kerasft.rows import Rows
from kerasft.spec import Labels
from kerasft.steps.looks import showing
from kerasft.steps.looks.seen import described

WORDS = ("augment=none", "batch_size=4")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def drawn(monkeypatch):
    """The cells of each sheet that is drawn, beside the sheet itself."""
    sheets, draw = [], contact_sheet.draw

    def noted(cells, names, path, **settings):
        sheets.append((list(cells), settings.get("columns")))
        return draw(cells, names, path, **settings)

    monkeypatch.setattr(contact_sheet, "draw", noted)
    return sheets


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def folder_of_images(folder, size=24):
    """Write a folder of red and blue images, none of them like another one."""
    for name, channel in (("blue", 2), ("red", 0)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            image = np.full((size, size, 3), 10 * i, "uint8")
            image[..., channel] = 250
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return (
        "data=image_folder", f"data.path={folder}", "backbone=tiny_resnet",
        f"backbone.image_size={size}", "batch_size=4",
    )  # fmt: skip


# --- images ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_images_stand_in_the_order_of_the_batches_below_their_classes(tmp_path, drawn, capsys):
    words = folder_of_images(tmp_path / "images")
    made = kerasft.show([*words, "augment=none"], count=6)
    assert made.name == "show.png"
    (cells, columns), = drawn
    assert columns is None
    for cell in cells:
        colour = ("red", "", "blue")[cell.image[0, 0].argmax()]
        assert cell.words == cell.note.split("/")[0] == colour
    assert len({cell.note for cell in cells}) == 6
    later = kerasft.show([*words, "augment=none"], epoch=1, count=6, output="later.png")
    assert later.is_file() and [c.note for c in drawn[1][0]] != [c.note for c in cells]
    assert "6 images in epoch 0: show.png" in capsys.readouterr().out
    # The images lie on the sheet as they are, each pixel enlarged.
    sheet, first = pixels(made), cells[0].image.repeat(9, axis=0).repeat(9, axis=1)
    assert (sheet[GAP : GAP + 216, GAP : GAP + 216] == first).all()


def test_it_is_what_training_sees(tmp_path, drawn, monkeypatch):
    """Each image of each view is the one in the batch of that epoch that the step is fed with."""
    words = folder_of_images(tmp_path / "images")
    kept = []
    show = showing.show
    monkeypatch.setattr(showing, "show", lambda ready, wanted: kept.append(ready) or show(
        ready, wanted))  # fmt: skip
    kerasft.show([*words, "augment=light"], count=3, views=3, epoch=2, output="views.png")
    (cells, columns), = drawn
    assert columns == 3 and len(cells) == 9
    assert [cell.note.split(", ")[1] for cell in cells] == ["epoch 2", "epoch 3", "epoch 4"] * 3
    assert all(len({c.note.split(",")[0] for c in cells[i : i + 3]}) == 1 for i in (0, 3, 6))
    batches, ids = kept[0].batches, kept[0].splits.train.ids
    fed = {}
    first, last = 2 * batches.steps, 5 * batches.steps
    for step, (inputs, y) in enumerate(batches.from_step(first).take(last - first), first):
        epoch, indices = batches.order.batch(step)
        for index, image, one in zip(indices, inputs.numpy(), y.numpy(), strict=True):
            fed[f"{ids[index]}, epoch {epoch}"] = image, ("blue", "red")[one.argmax()]
    for cell in cells:
        image, name = fed[cell.note]
        assert (cell.image == image).all() and cell.words == name
    assert any((cells[0].image != cell.image).any() for cell in cells[1:3])


@pytest.mark.slow
def test_shares_of_mixed_images_are_told(tmp_path, drawn):
    words = folder_of_images(tmp_path / "images")
    words = [*words, "augment=cutmix", "task.class_weight={red: 2, blue: 1}"]
    kerasft.show(words, count=8, views=2)
    said = [cell.words for cell in drawn[0][0]]
    assert all(re.fullmatch(r"(red|blue)( 0\.\d\d, (red|blue) 0\.\d\d)?, weight [12]", s)
               for s in said)  # fmt: skip
    assert sum("0." in one for one in said) >= 3


@pytest.mark.slow
def test_without_augmentation_views_are_alike_and_that_is_said(tiny_images, capsys, drawn):
    kerasft.show(tiny_images, count=2, views=3)
    cells, _ = drawn[0]
    assert (cells[0].image == cells[2].image).all()
    assert "augment=none: an image is the same in each epoch" in capsys.readouterr().out


@pytest.mark.slow
def test_several_labels_and_numbers(tmp_path, drawn):
    (tmp_path / "shots").mkdir()
    rows = []
    for i in range(30):
        Image.new("RGB", (16, 16), (8 * i, 0, 0)).save(tmp_path / "shots" / f"{i}.png")
        rows.append([f"shots/{i}.png", ("day", "day,sea", "")[i % 3], f"{i / 2}", f"{1000 * i}"])
    with open(tmp_path / "shots.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "tags", "depth", "price"], *rows])
    common = (
        "data=table", f"data.path={tmp_path}/shots.csv", "data.image=file", "batch_size=8",
        "backbone=tiny_resnet", "backbone.image_size=16", "augment=none",
    )  # fmt: skip
    tags = {row[0]: row[1].replace(",", ", ") or "no class" for row in rows}
    for more, said in (
        (["task=multi_label", "data.label=tags"], lambda red: tags[f"shots/{red // 8}.png"]),
        (["task=regression", "data.label=depth"], lambda red: f"{red / 16:g}"),
        (["task=multi_regression", "data.label=[depth,price]"],
         lambda red: f"depth {red / 16:g}, price {125 * red}"),
    ):  # fmt: skip
        kerasft.show([*common, *more], count=8)
        cells, _ = drawn[-1]
        assert len(cells) == 8
        for cell in cells:
            assert cell.words == said(int(cell.image[0, 0, 0]))


@pytest.mark.slow
def test_more_images_than_there_are_shows_all(tiny_images, drawn):
    kerasft.show(tiny_images, count=1000)
    cells, _ = drawn[0]
    assert len(cells) == len({cell.note for cell in cells}) == 30


# --- boxes and masks ---------------------------------------------------------------------------


@pytest.mark.slow
def test_drawn_boxes_follow_the_augmented_pixels(tmp_path, drawn):
    """Each box that is drawn lies around a bright rectangle, wherever augmentation moved it."""
    folder = tmp_path / "rectangles"
    random = np.random.default_rng(0)
    for split, count in (("train", 16), ("valid", 4), ("test", 4)):
        made = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "bright"}]}
        (folder / split).mkdir(parents=True)
        for i in range(count):
            image = np.full((64, 80, 3), 40, "uint8")
            height, width = (int(side) for side in random.integers(16, 28, 2))
            top, left = int(random.integers(8, 30)), int(random.integers(8, 40))
            image[top : top + height, left : left + width] = 220
            Image.fromarray(image).save(folder / split / f"{i}.png")
            made["images"].append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 80})
            made["annotations"].append({
                "id": i, "image_id": i, "category_id": 1, "iscrowd": 0,
                "bbox": [left, top, width, height],
            })  # fmt: skip
        (folder / split / "_annotations.coco.json").write_text(json.dumps(made))
    path = kerasft.show([
        "task=detection", "data=coco", f"data.path={folder}", "backbone=tiny_resnet",
        "backbone.image_size=[64,80]", "head=anchor_free", "+head.finest=2", "+head.coarsest=3",
        "augment=boxes", "batch_size=8",
    ], count=4, views=3)  # fmt: skip
    (cells, _), sheet = drawn[0], pixels(path)
    scale = 2  # of 80 pixels to at most 224
    orange = np.array(ImageColor.getrgb(colour_of(0)))
    seen = 0
    across = max(80 * scale, contact_sheet.LEAST) + GAP
    tall = cells[0].image.shape[0] * scale
    below = (sheet.shape[0] - 2 * GAP - contact_sheet.WORDS - 8) // 4 - tall
    for i, cell in enumerate(cells):
        row, column = divmod(i, 3)
        left, top = GAP + column * across, GAP + row * (tall + below)
        shown = sheet[top : top + tall, left : left + 80 * scale]
        lines = (shown == orange).all(axis=-1)
        assert lines.any() == bool(cell.objects)
        assert cell.words == ("bright 1" if cell.objects else "no objects")
        bright = cell.image[..., 0] > 0.75 * cell.image.max()
        if not cell.objects or not bright.any():
            continue
        rows, columns = np.flatnonzero(lines.any(1)), np.flatnonzero(lines.any(0))
        inside = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        for drawn_at, there in ((rows, inside[0]), (columns, inside[1])):
            assert abs(drawn_at[0] / scale - there[0]) <= 2
            assert abs(drawn_at[-1] / scale - there[-1]) <= 2
            seen += 1
    assert seen > 12


def test_regions_that_are_ignored_are_grey_and_padding_is_not_drawn():
    one = SimpleNamespace(
        inputs={"images": np.zeros((32, 32, 3), "uint8")}, words="",
        targets={"boxes": np.array([[2, 2, 9, 9], [12, 12, 20, 20], [0, 0, 0, 0]], "float32"),
                 "labels": np.array([1, 0, -1]), "ignored": np.array([False, True, False])},
    )  # fmt: skip
    made = showing.cell(one, ("a", "b"), "")
    assert [(o["label"], o["box"]) for o in made.objects] == [("b", [2, 2, 9, 9])]
    assert [o["box"] for o in made.ignored] == [[12, 12, 20, 20]]


def test_masks_are_laid_over_whatever_the_task(tmp_path, drawn):
    """A task that nobody knows, whose targets are masks under the name that Keras gives them."""
    images = np.full((6, 32, 32, 3), 100, "uint8")
    masks = np.zeros((6, 32, 32, 1), "uint8")
    masks[:, 8:24, 8:24] = 1
    masks[:, :4] = 255
    targets = Rows.of({"segmentation_masks": masks})
    batches = Batches(
        Store.of({"images": images}), targets, order=Order(6, 2, seed=0), batch=lambda *_: (0, None)
    )
    ready = SimpleNamespace(
        batches=batches, task=object(), preprocess=ImagePreprocess(32, 32),
        splits=SimpleNamespace(labels=Labels("masks", ("background", "cell")),
                               train=SimpleNamespace(ids=tuple("abcdef"))),
    )  # fmt: skip
    path = showing.show(ready, showing.Wanted(str(tmp_path / "m.png"), count=3))
    assert {cell.words for cell in drawn[0][0]} == {"background 62%, cell 25%, ignored 12%"}
    sheet = pixels(path)[GAP : GAP + 224, GAP : GAP + 224]
    cell = np.array(ImageColor.getrgb(colour_of(1)))
    assert (sheet[224 // 2, 224 // 2] == np.round((100 + cell) / 2)).all()
    assert (sheet[200, 20] == 100).all()  # background
    assert np.ptp(sheet[10, 100]) < 20 and (sheet[10, 100] > 115).all()  # grey


def test_targets_of_a_task_that_says_nothing_are_shown_as_they_are():
    targets = {"share": np.array([[0.5, 2.0]]), "map": np.zeros((1, 4, 4)), "n": np.array([3])}
    assert described(object(), targets, Labels("own"), 1) == ["share 0.5 2, map [4 x 4], n 3"]


# --- texts -------------------------------------------------------------------------------------


@pytest.fixture
def long_texts(tmp_path):
    path = tmp_path / "texts.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(40):
            # Each word and each number is a token: 9, and in each eighth text 30 more.
            text = f"film {i // 8} {i % 8} is the lazy dog and cold"
            text += " and cold" * 15 * (i % 8 == 0)
            writer.writerow([text, ("pos", "neg")[i % 2]])
    return (
        "data=table", f"data.path={path}", "data.text=text", "data.label=label",
        "backbone=tiny_bert", "backbone.layers=1", "batch_size=28",
    )  # fmt: skip


@pytest.mark.slow
def test_texts_are_shown_as_tokens_with_what_is_cut(long_texts, capsys, tmp_path):
    words = [*long_texts, "backbone.sequence_length=16", "length_grouping=false"]
    assert kerasft.show(words, count=40) is None
    said = capsys.readouterr().out
    assert re.search(r"epoch 0, batch 1 of 1: \d\d texts, 16 positions wide, \d\d% of them padding",
                     said)  # fmt: skip
    assert re.search(
        r"texts.csv:\d+: (pos|neg); 11 tokens and 5 of padding\n"
        r"  \[CLS\] film \d \d is the lazy dog and cold \[SEP\]\n\n", said,
    )  # fmt: skip
    cut = re.findall(r"; 16 tokens\n  (.*)\n  cut from the end, (\d+) tokens: \[(.*)\]", said)
    assert cut
    for kept, count, lost in cut:
        # A text has the room that its special tokens leave: 14 of its 39 tokens.
        assert re.fullmatch(
            r"\[CLS\] film \d 0 is the lazy dog and cold and cold and cold and \[SEP\]", kept
        )
        assert (int(count), lost) == (25, "cold" + " and cold" * 12)
    last = said.strip().splitlines()[-1]
    number, of = map(int, re.search(r"^(\d+) of (\d+) training texts", last).groups())
    assert number == len(cut) and of == said.count("texts.csv:")
    assert last.endswith("are cut at backbone.sequence_length=16, and lose a median of 25 tokens")
    written = kerasft.show(words, count=40, output=str(tmp_path / "texts.txt"))
    assert written.read_text("utf-8").strip() in capsys.readouterr().out


@pytest.mark.slow
def test_where_nothing_is_cut_that_is_said(long_texts, capsys):
    kerasft.show([*long_texts, "backbone.sequence_length=64"], count=1)
    said = capsys.readouterr().out
    assert "cut from" not in said and "; the first 1\n" in said
    assert said.strip().endswith("no training text is cut at backbone.sequence_length=64")


@pytest.mark.slow
def test_pairs_lose_the_end_of_either_text(tmp_path, capsys):
    with open(tmp_path / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["one", "two", "score"])
        for i in range(40):
            first = f"{i // 10} {i % 10} film " + "and cold " * 9 * (i % 2)
            writer.writerow([first, "that is " * (2 + 6 * (i % 4 > 1)), i / 4])
    kerasft.show([
        "data=table", f"data.path={tmp_path}/pairs.csv", "data.text=one", "data.text_pair=two",
        "data.label=score", "task=regression", "backbone=tiny_bert", "backbone.layers=1",
        "backbone.sequence_length=15", "batch_size=20",
    ], count=20)  # fmt: skip
    said = capsys.readouterr().out
    assert re.search(r"\[CLS\] \d \d film \[SEP\] that is that is \[SEP\]\n\n", said)
    assert re.search(
        r"\[CLS\] \d \d film \[SEP\]( that is){4} that \[SEP\]\n"
        r"  cut from the end of text 2, 7 tokens: \[is( that is){3}\]\n\n", said,
    )  # fmt: skip
    assert re.search(
        r"\[CLS\] \d \d film and cold and \[SEP\]( that is){3} \[SEP\]\n"
        r"  cut from the end of text 1, 15 tokens: \[cold( and cold){7}\]\n"
        r"  cut from the end of text 2, 10 tokens: \[that is( that is){4}\]\n\n", said,
    )  # fmt: skip
    assert re.search(r"pairs.csv:\d+: \d(\.\d+)?; ", said)


def test_what_cannot_be_had_of_texts(long_texts):
    with pytest.raises(UserError, match=r"The data is texts, for which --output must end in \.txt"):
        kerasft.show(long_texts, output="x.png")
    with pytest.raises(UserError, match=r"--views shows .* or choose augment=text"):
        kerasft.show(long_texts, views=2)


@pytest.mark.slow
def test_changed_texts_are_shown_as_training_sees_them(long_texts, capsys):
    words = [*long_texts, "augment=text", "augment.delete.rate=0.4", "augment.swap.stop=-1",
             "backbone.sequence_length=64", "epochs=3"]  # fmt: skip
    kerasft.show(words, count=6, views=2)
    said = capsys.readouterr().out
    found = re.findall(
        r"(texts\.csv:\d+), epoch (\d): .*\n  (changed|as it is): (.*)\n  \[CLS\] (.*) \[SEP\]\n",
        said,
    )  # fmt: skip
    assert len(found) == 12 and len({(name, epoch) for name, epoch, *_ in found}) == 12
    assert {how for _, _, how, *_ in found} == {"changed", "as it is"}
    for _, _, _, text, tokens in found:
        assert tokens.split() == text.split()
    # Each has both epochs below one another, and most are not alike in them.
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert all(one[0] == other[0] for one, other in pairs)
    assert sum(one[3] != other[3] for one, other in pairs) >= 3
    assert "no training text is cut" in said


def test_all_that_is_wrong_with_a_wish_is_told_at_once():
    with pytest.raises(UserError) as told:
        showing.Wanted("x.gif", epoch=-1, count=0, views=0)
    assert len(told.value.problems) == 4


def test_a_run_is_shown_by_its_own_config(tiny_text_run, kerasft_cli):
    found = kerasft_cli("show", str(tiny_text_run), "--examples", "2")
    assert found.code == 0, found.out + found.err
    assert "the first 2" in found.out or ": 2 texts" in found.out
    more = kerasft_cli("show", str(tiny_text_run), "backbone.sequence_length=8", "--count", "2")
    assert more.code == 0 and "cut at backbone.sequence_length=8" in more.out
    wrong = kerasft_cli("show", str(tiny_text_run), "backbone=tiny_gpt2")
    assert wrong.code == 2 and "Behind the run" in wrong.err and "backbone keeps" in wrong.err
