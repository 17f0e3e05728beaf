"""Masks out of outlines, against pycocotools."""

import numpy as np
import pytest

from kerasft.data.images.outlines import filled, outlined, run_lengths, unrolled

mask = pytest.importorskip("pycocotools.mask")


def blots(seed, size=(37, 51)):
    random = np.random.default_rng(seed)
    made = np.kron(random.random((5, 6)) < 0.4, np.ones((9, 9))).astype("uint8")
    return np.asfortranarray(made[: size[0], : size[1]])


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_those_of_pycocotools(seed):
    wanted = blots(seed)
    packed = mask.encode(wanted)
    text = packed["counts"].decode()
    found = outlined({"size": list(wanted.shape), "counts": text}, wanted.shape)
    np.testing.assert_array_equal(found, wanted.astype(bool))
    plain = outlined({"counts": run_lengths(text), "size": list(wanted.shape)}, wanted.shape)
    np.testing.assert_array_equal(plain, found)


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_near_to_those_of_pycocotools(seed):
    """They differ at the border alone, where it takes any pixel that is touched."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.random(9)) * 2 * np.pi
    radius = random.uniform(20, 55, 9)
    points = np.stack([70 + radius * np.cos(angles), 60 + radius * np.sin(angles)], 1)
    polygon = points.ravel().tolist()
    wanted = mask.decode(mask.frPyObjects([polygon], 120, 140))[..., 0].astype(bool)
    found = outlined([polygon], (120, 140))
    assert (found & wanted).sum() / (found | wanted).sum() > 0.95
    x, y = points.T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    # As exact as pixels are; a border of a pixel too much would be 3 % and more.
    assert found.sum() == pytest.approx(area, rel=0.015)


def test_what_lies_outside_is_cut_off():
    points = np.array([[-5.0, -5], [3, -5], [3, 2], [-5, 2]])
    assert filled(points, (4, 4)).sum() == 6
    assert not filled(points - 20, (4, 4)).any()
    assert filled(points + 20, (4, 4)).sum() == 0
    assert filled(np.array([[-9.0, -9], [99, -9], [99, 99], [-9, 99]]), (4, 4)).all()


def test_several_polygons_are_one_object():
    left, right = [0, 0, 1, 0, 1, 3, 0, 3], [2, 0, 4, 0, 4, 3, 2, 3]
    assert outlined([left, right], (3, 5)).sum() == 9
    assert outlined([], (3, 5)) is None


@pytest.mark.parametrize(("segmentation", "said"), [
    ([[1, 2, 3, 4]], "three points or more"),
    ([[1, 2, 3, 4, 5, "6"]], "three points or more"),
    ([[1, 2, 3, 4, 5, float("nan")]], "no number"),
    ("outline", "a list of polygons, or run lengths"),
    ({"size": [3, 4], "counts": [1, 1]}, "do not fill 4 x 3 pixels"),
    ({"size": [3, 4], "counts": [13, -1]}, "do not fill"),
    ({"size": [4, 3], "counts": [12]}, "its size is"),
    ({"size": [3, 4], "counts": [1.5]}, "whole numbers"),
    ({"size": [3, 4], "counts": "a"}, "cut off"),
    ({"size": [3, 4], "counts": "!"}, "stands for no number"),
])  # fmt: skip
def test_mistakes(segmentation, said):
    with pytest.raises(ValueError, match=said):
        outlined(segmentation, (3, 4))


def test_whole_columns():
    assert unrolled([6, 6], (3, 4)).tolist() == [[False, False, True, True]] * 3
