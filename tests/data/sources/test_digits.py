import io

import numpy as np
import pytest
from PIL import Image

from kerasft.data.sources.digits import digits
from kerasft.errors import UserError


def test_default():
    splits = digits(kind="single", seed=0)
    assert {n: len(p) for n, p in splits.parts.items()} == {
        "train": 50, "validation": 200, "test": 1547,
    }  # fmt: skip
    assert np.bincount(splits.train.labels).tolist() == [5] * 10
    assert splits.labels.names == tuple("0123456789")
    assert all(name.startswith("digits/0") for name in splits.train.ids)
    assert not splits.notices


def test_images_hold_the_grey_values():
    from sklearn.datasets import load_digits

    images = load_digits().images
    part = digits(kind="single", seed=0).train
    for name, content in zip(part.ids, part.inputs, strict=True):
        seen = np.asarray(Image.open(io.BytesIO(content)))
        assert seen.shape == (8, 8)
        assert np.array_equal(np.round(seen / 255 * 16), images[int(name[-5:])])


def test_seed():
    assert digits(kind="single", seed=0).train.ids == digits(kind="single", seed=0).train.ids
    assert digits(kind="single", seed=0).train.ids != digits(kind="single", seed=1).train.ids


def test_more_examples_hold_the_fewer():
    few = digits(kind="single", seed=0, train_per_class=5)
    many = digits(kind="single", seed=0, train_per_class=20)
    assert set(few.train.ids) < set(many.train.ids)


def test_a_smaller_test_is_a_part_of_the_whole_one():
    whole, part = (digits(kind="single", seed=0, test_per_class=n) for n in (None, 7))
    assert np.bincount(part.test.labels).tolist() == [7] * 10
    assert set(part.test.ids) < set(whole.test.ids)
    assert part.train.ids == whole.train.ids and part.validation.ids == whole.validation.ids
    assert part.labels == whole.labels


@pytest.mark.parametrize("count", [0, 200, 1.5, True, "10"])
def test_bad_counts(count):
    with pytest.raises(UserError, match="train_per_class"):
        digits(kind="single", seed=0, train_per_class=count)


@pytest.mark.parametrize("counts", [(100, 74, None), (100, 73, 2)])
def test_more_than_there_are(counts):
    names = ("train_per_class", "validation_per_class", "test_per_class")
    with pytest.raises(UserError, match="only 174 examples of some digits") as error:
        digits(kind="single", seed=0, **dict(zip(names, counts, strict=True)))
    assert "data.validation_per_class=7" in str(error.value)
    assert ("data.test_per_class=2" in str(error.value)) == (counts[2] == 2)


def test_all_there_are():
    splits = digits(kind="single", seed=0, train_per_class=100, validation_per_class=73)
    assert len(splits.test) == 1797 - 1730
