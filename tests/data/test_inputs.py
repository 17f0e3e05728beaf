"""What Python hands over to be answered: lists, arrays, frames' columns; never one input alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasft.data.inputs import read_inputs
from kerasft.errors import UserError


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_arrays_of_pixels_become_images_that_hold_the_same():
    drawn = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    for given in (drawn, list(drawn), tuple(drawn), [Image.fromarray(one) for one in drawn]):
        found = read_inputs(given, "images")
        assert [pixels(one).tolist() for one in found] == drawn.tolist()
    halves = read_inputs(drawn / np.float32(255), "images")
    assert [pixels(one).tolist() for one in halves] == drawn.tolist()
    grey = read_inputs(drawn[..., 0], "images")
    assert [pixels(one).tolist() for one in grey] == drawn[..., 0].tolist()


def test_tensors_are_read_as_arrays():
    import tensorflow as tf

    drawn = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    for given in (tf.constant(drawn), list(tf.constant(drawn))):
        assert [pixels(one).tolist() for one in read_inputs(given, "images")] == drawn.tolist()
    assert read_inputs(tf.constant(["a", "b"]), "text") == ["a", "b"]


def test_paths_and_bytes_stay_beside_arrays():
    drawn = np.zeros((4, 4, 3), np.uint8)
    found = read_inputs(["a.png", b"\xff\xd8", Path("b") / "c.png", drawn], "images")
    assert found[:3] == ["a.png", b"\xff\xd8", str(Path("b") / "c.png")]
    assert (pixels(found[3]) == 0).all()


def test_texts_and_pairs():
    assert read_inputs(np.array(["a", "b"]), "text") == ["a", "b"]
    assert read_inputs([("a", "b")], "text") == [("a", "b")]


@pytest.mark.parametrize(("given", "modality", "words"), [
    ("a good film", "text", "as a list.*Received: 'a good film'. Put it in square brackets"),
    (b"\x89PNG", "images", "as a list"),
    (Path("a.png"), "images", "as a list.*one .*Path"),
    (np.zeros((4, 4, 3), "uint8"), "images", r"one ndarray of the shape \[4, 4, 3\]"),
    (np.zeros((4, 4), "uint8"), "images", r"one ndarray of the shape \[4, 4\]"),
    (Image.new("RGB", (4, 4)), "images", "one Image"),
    ([], "text", "list of inputs is empty"),
    (np.zeros((0, 4, 4, 3)), "images", "list of inputs is empty"),
    ([np.zeros((3, 5, 7), "uint8")], "images", "channels come first"),
    ([np.full((4, 4, 3), -1.0)], "images", "pixels must be from 0 to 255"),
    (7, "text", "an entry for each"),
])  # fmt: skip
def test_what_is_no_list_of_inputs_is_refused(given, modality, words):
    with pytest.raises(UserError, match=words):
        read_inputs(given, modality)
