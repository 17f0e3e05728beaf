"""Data that Python holds: frames, arrays, data sets of Hugging Face and of tf.data."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import tensorflow as tf
from held_data import DataSet, Frame
from hub_files import described, reviews
from image_bytes import png
from PIL import Image

from kerasft.data.given import given
from kerasft.data.manifest import diff_manifest, read_manifest, write_manifest
from kerasft.data.sources.memory import memory
from kerasft.errors import UserError

TEXTS = [f"text {i}" for i in range(40)]
WORDS = ["ab"[i % 2] for i in range(40)]
NUMBERS = [i % 2 for i in range(40)]
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype="uint8")
slices = tf.data.Dataset.from_tensor_slices


def ask(data, **settings):
    with given(data):
        return memory(**{"kind": "single", "seed": 0, **settings})


def fails(data, **settings):
    with pytest.raises(UserError) as caught:
        ask(data, **settings)
    return " ".join(caught.value.problems)


def sizes(splits):
    return {name: len(part) for name, part in splits.parts.items()}


def found(splits):
    """Return the input and label of all examples, by name."""
    return {
        name: (one, label.tolist()) for part in splits.parts.values()
        for name, one, label in zip(part.ids, part.inputs, part.labels, strict=True)
    }  # fmt: skip


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


FORMS = {
    "dict": {"text": TEXTS, "label": WORDS},
    "dict of arrays": {"text": np.array(TEXTS), "label": np.array(WORDS)},
    "pair": (TEXTS, WORDS),
    "tensors": (tf.constant(TEXTS), tf.constant(WORDS)),
    "a column of labels": (np.array(TEXTS), np.array(WORDS)[:, None]),
    "records": [{"text": t, "label": w} for t, w in zip(TEXTS, WORDS, strict=True)],
    "arrow": pyarrow.table({"text": TEXTS, "label": WORDS}),
    "frame": Frame({"text": TEXTS, "label": WORDS}),
    "hugging face": DataSet(pyarrow.table({"text": TEXTS, "label": WORDS})),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_data(form):
    splits = ask(FORMS[form])
    assert sizes(splits) == {"train": 28, "validation": 6, "test": 6}
    assert splits.labels.names == ("a", "b")
    assert found(splits) == {f"data:{i}": (TEXTS[i], i % 2) for i in range(40)}
    assert splits.source["given"] == {"train": {"rows": 40, "columns": ["text", "label"]}}


@pytest.mark.parametrize("form", ["pairs", "batches", "dicts", "shuffled"])
def test_examples_of_tf_data_are_known_by_what_they_hold(form):
    data = {
        "pairs": slices((TEXTS, WORDS)),
        "batches": slices((TEXTS, WORDS)).batch(7),
        "dicts": slices({"text": TEXTS, "label": WORDS}).batch(3),
        "shuffled": slices((TEXTS, WORDS)).shuffle(40).batch(7),
    }[form]
    one, other = ask(data), ask(slices((TEXTS[::-1], WORDS[::-1])))
    assert found(one) == found(other) and one.train.ids == other.train.ids
    assert sorted(found(one).values()) == sorted(zip(TEXTS, NUMBERS, strict=True))
    twice = ask(slices((TEXTS[:20] * 2, WORDS)))
    assert len(found(twice)) == 40 and any(name.endswith("-2") for name in found(twice))


def test_the_real_libraries():
    pandas = pytest.importorskip("pandas")
    datasets = pytest.importorskip("datasets")
    frame = pandas.DataFrame({"text": TEXTS, "label": WORDS})
    for data in (frame, datasets.Dataset.from_pandas(frame)):
        assert found(ask(data)) == found(ask(FORMS["dict"]))


def test_frames():
    index = [f"r{i}" for i in range(40)]
    splits = ask(Frame({"review": TEXTS, "stars": WORDS}, index), text="review", label="stars")
    assert "data:r1" in found(splits)
    doubled = Frame({"text": TEXTS, "label": WORDS}, ["r"] * 40)
    assert found(ask(doubled)) == found(ask(FORMS["dict"]))
    missing = Frame({"text": [float("nan"), None, *TEXTS[2:]], "label": WORDS})
    assert "2 texts left out, as empty: data:0, data:1." in ask(missing).notices
    missing = Frame({"text": TEXTS, "label": [*WORDS[:39], None]})
    assert "empty or NaN: data:39" in fails(missing)
    splits = ask(missing, unlabeled="skip")
    assert splits.notices[0] == "1 row left out, without a label (data.label=label): data:39."
    assert len(found(splits)) == 39
    assert ask(Frame({"text": TEXTS, "u": NUMBERS, "v": NUMBERS[::-1]}), kind="multi",
               label=["u", "v"]).labels.names == ("u", "v")  # fmt: skip


def test_data_sets_of_hugging_face():
    splits = ask({"train": DataSet(reviews(40)), "test": DataSet(reviews(8, 40, hidden=True)),
                  "unsupervised": DataSet(reviews(4))})  # fmt: skip
    assert splits.labels.names == ("negative", "positive")
    assert sizes(splits) == {"train": 28, "validation": 6, "test": 6}
    assert "left out: 'unsupervised'" in splits.notices[0]
    assert "none of the 8 examples of test has a label" in splits.notices[1]
    cells = [{"bytes": png(i), "path": None} for i in range(40)]
    images = ask(DataSet(described({"img": cells, "label": NUMBERS})))
    assert images.train.inputs[0] == png(int(images.train.ids[0][5:]))
    streamed = SimpleNamespace(with_format=None, features={})
    assert "Load it without streaming=True" in fails(streamed)


@pytest.mark.parametrize(
    ("given_as", "read_as"),
    [
        (PIXELS, PIXELS),
        (PIXELS.astype("int64"), PIXELS),
        (PIXELS.astype("float32"), PIXELS),
        (PIXELS / np.float32(255), PIXELS),
        (PIXELS / np.float64(255), PIXELS),
        (PIXELS[..., 0], PIXELS[..., 0]),
        (PIXELS[..., :1], PIXELS[..., 0]),
        (PIXELS[..., 0] > 99, (PIXELS[..., 0] > 99) * np.uint8(255)),
        ([one[: 3 + i % 3] for i, one in enumerate(PIXELS)], None),
        ([Image.fromarray(one) for one in PIXELS], PIXELS),
        ([Image.fromarray(one).convert("P") for one in PIXELS[..., 0]], None),
    ],
)
def test_images_are_arrays_of_pixels(given_as, read_as):
    for data in ((given_as, NUMBERS), {"x": given_as, "label": NUMBERS}):
        splits = ask(data)
        assert sum(map(len, splits.parts.values())) == 40
        for name, (content, _) in found(splits).items():
            i = int(name.split(":")[1])
            if read_as is not None:
                np.testing.assert_array_equal(pixels(content), read_as[i])
            elif isinstance(given_as[i], np.ndarray):
                np.testing.assert_array_equal(pixels(content), given_as[i])


@pytest.mark.parametrize(
    "data",
    [
        slices((PIXELS, NUMBERS)), slices((PIXELS, NUMBERS)).batch(7),
        slices((PIXELS.astype("float32"), NUMBERS)).batch(7),
        slices((PIXELS / 255, np.eye(2)[NUMBERS])),
        slices({"image": [tf.io.encode_png(one).numpy() for one in PIXELS], "label": NUMBERS}),
    ],
)
def test_images_of_tf_data(data):
    splits = ask(data)
    read = sorted(pixels(content).tobytes() for content, _ in found(splits).values())
    assert read == sorted(one.tobytes() for one in PIXELS)
    assert splits.labels.names == ("0", "1")


def test_grey_batches_and_names_of_classes():
    data = slices((PIXELS[..., 0], NUMBERS)).batch(5)
    data.class_names = ["ant", "bee"]
    splits = ask(data)
    assert splits.labels.names == ("ant", "bee")
    assert pixels(splits.train.inputs[0]).shape == (6, 5)


def test_labels():
    assert ask((TEXTS, np.eye(2)[NUMBERS]), label_names=["x", "y"]).labels.names == ("x", "y")
    vectors = ask((TEXTS, np.eye(2)[NUMBERS]), kind="multi", label_names=["x", "y"])
    assert vectors.train.labels.shape == (28, 2)
    numbers = ask((TEXTS, np.float32(np.arange(40) / 10)), kind="number")
    assert set(found(numbers)["data:3"]) == {"text 3", 0.3}
    assert ask((TEXTS, np.ones((40, 3)) * np.arange(40)[:, None]), kind="numbers").labels.names == (
        "0", "1", "2",
    )  # fmt: skip


def test_the_column_that_is_read_is_found():
    label = {"label": WORDS}
    assert ask({"sentence": TEXTS, **label}).train.inputs[0].startswith("text")
    assert ask({"text": TEXTS, "more": WORDS, **label}).train.inputs[0].startswith("text")
    assert ask({"img": PIXELS, "note": TEXTS, **label}).train.modality == "images"
    pairs = ask({"a": TEXTS, "b": WORDS, **label}, text="a", text_pair="b")
    assert pairs.train.inputs[0][1] in "ab"
    assert "several fit: 'a', 'b'. The columns: 'a', 'b', 'label'" in fails(
        {"a": TEXTS, "b": WORDS, **label}
    )
    assert "none fits" in fails({"a": NUMBERS, **label})
    assert "no column 'label'. Its columns: 'a'" in fails({"a": TEXTS})
    assert "Did you mean 'text'?" in fails(FORMS["dict"], text="texts")
    said = fails({"image": ["none.png"] * 40, **label})
    assert "no image of the table is where it says" in said


def test_splits():
    parts = {"train": (TEXTS[:30], WORDS[:30]), "dev": (TEXTS[30:], WORDS[30:]), "test": None}
    splits = ask(parts)
    assert sizes(splits) == {"train": 26, "validation": 10, "test": 4}
    assert splits.validation.ids[0] == "validation:0"
    # A dict of columns may be called as splits are.
    assert sizes(ask({"train": TEXTS, "label": WORDS})) == sizes(ask(FORMS["dict"]))
    assert "there is no split to train on. Received: test" in fails({"test": (TEXTS, WORDS)})
    assert "two of its splits mean validation" in fails({**parts, "val": parts["dev"]})
    assert "data.split_column" in fails(parts, split_column="label")
    said = {**FORMS["dict"], "part": ["train"] * 30 + ["test"] * 10}
    splits = ask(said, text="text", split_column="part")
    assert sizes(splits) == {"train": 26, "validation": 4, "test": 10}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "Received: int."),
        ("x.csv", 'A file is named in the overrides: ["data=table"'),
        (TEXTS, "must be a pandas or polars DataFrame"),
        (np.zeros((3, 3)), "Received: numpy.ndarray"),
        ({}, "holds no examples"),
        (DataSet(reviews(0)), "holds no examples"),
        (slices((TEXTS, WORDS)).take(0), "an empty tf.data.Dataset"),
        ({"text": "abc", "label": "abc"}, "must be a list or array with an entry for each"),
        ({"text": TEXTS, "label": WORDS[:3]}, "equally long. Received: text with 40, label with 3"),
        ((TEXTS, WORDS, WORDS), "a pair (inputs, labels). Received: a tuple of 3"),
        (((TEXTS, WORDS), (TEXTS, WORDS)), 'Give splits as {"train": (x, y), "test": (x, y)}'),
        ((np.array(3), WORDS), "Received: a scalar"),
        ((PIXELS.reshape(40, -1), WORDS), "Received: list of 90 values"),
        ((PIXELS / 127.5 - 1, WORDS), "Received: values from -1 to 1. Give pixels as they were"),
        ((np.where(PIXELS > 250, np.nan, PIXELS), WORDS), "values from nan to nan"),
        ((PIXELS.astype("int32") * 9, WORDS), "pixels must be from 0 to 255"),
        ((np.moveaxis(PIXELS, -1, 1), WORDS), "whose channels come first"),
        ({"image": [*PIXELS[:39], "x"], "label": WORDS}, "number 39 must be an image"),
        ({"train": (PIXELS, WORDS), "test": (PIXELS / 255, WORDS)}, "must be in one range"),
        (slices((TEXTS, WORDS)).repeat(), "must be finite"),
        (slices((TEXTS, WORDS, WORDS)), "each element must be a pair of input and label"),
        (slices(PIXELS), "each element must be a pair of input and label"),
        (slices((tf.ragged.constant([[1], [2, 3]]), [0, 1])), "a tensor of known rank"),
        (slices((np.where(PIXELS > 250, np.nan, PIXELS), WORDS)), "values from nan to nan"),
    ],
)
def test_what_cannot_be_read(data, said):
    assert said in fails(data)


def test_a_manifest_tells_changed_data(tmp_path):
    file = write_manifest(ask(FORMS["dict"]), tmp_path / "manifest.json")
    manifest = read_manifest(file)
    assert not diff_manifest(manifest, ask(FORMS["frame"]))
    changed = {"text": ["another", *TEXTS[1:]], "label": WORDS}
    assert "hold something else: 1 (data:0)" in " ".join(diff_manifest(manifest, ask(changed)))
    file = write_manifest(ask(slices((PIXELS, NUMBERS))), tmp_path / "manifest.json")
    again = slices((PIXELS / 255, NUMBERS)).shuffle(40).batch(3)
    assert not diff_manifest(read_manifest(file), ask(again))
