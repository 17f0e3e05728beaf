"""Regularizers of the data in configs: explained with an example, and checked."""

from __future__ import annotations

import pytest

from kerasft.config.checks import check
from kerasft.config.composition import compose
from kerasft.config.explanation import explain
from kerasft.errors import UserError


@pytest.mark.every(3)
@pytest.mark.parametrize(("key", "overrides", "said"), [
    ("augment.mixup", ["augment=mixup"], "kerasft train augment=mixup augment.mixup.alpha=0.4"),
    ("augment.cutmix.stop", ["augment=cutmix"], "-5 leaves the last five epochs"),
    ("augment.mosaic.stop", ["augment=boxes_mosaic"], "-5 leaves the last five"),
    ("augment.delete", ["augment=text"], "kerasft train augment=text augment.delete.rate=0.2"),
    ("augment.swap.share", ["augment=text"], "The share of the texts in which words change places"),
    ("sampling", ["sampling=balanced"], "kerasft train sampling=balanced sampling.exponent=0.5"),
    ("sampling.exponent", ["sampling=balanced"], "1, where all classes are equally frequent"),
    ("sampling", [], "choose with sampling=NAME: balanced, none"),
    ("task.class_weight", [], "Cui et al. 2019"),
    ("task.class_weight", ["task=multi_label"], "Cui et al. 2019"),
    ("task.loss", [], '`"focal"` (Lin et al. 2017'),
    ("task.loss", ["task=multi_label"], '`"focal"` (Lin et al. 2017'),
])  # fmt: skip
def test_each_is_explained(key, overrides, said):
    assert said in " ".join(explain(key, overrides).split())


@pytest.mark.every(4)
@pytest.mark.parametrize("overrides", [
    ["augment=text", "augment.delete.rate=0.3", "~augment.swap"],
    ["augment=mixup", "augment.mixup.stop=-5"], ["augment=cutmix", "augment.cutmix.stop=0.5"],
    ["augment=boxes_mosaic", "augment.mosaic.stop=-2", "task=detection", "head=anchor_free"],
    ["sampling=balanced", "sampling.exponent=0.5", "sampling.threshold=0.1"],
    ["task.class_weight=auto", "task.loss=focal", "task.label_smoothing=0.1"],
    ["task=multi_label", "task.class_weight=auto", "task.loss=focal", "task.label_smoothing=0.1"],
])  # fmt: skip
def test_what_is_right_passes(overrides):
    check(compose(overrides))


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "said"), [
    (["sampling=balancd"], "Did you mean 'balanced'"),
    (["sampling=balanced", "sampling.exponents=1"], "Did you mean 'exponent'"),
    (["sampling=balanced", "sampling.exponent=much"], r"sampling\.exponent must be a number"),
    (["sampling=null"], "sampling must be one of balanced, none"),
    (["augment=text", "augment.delete.rates=1"], "Did you mean 'rate'"),
    (["augment=text", "augment.delete.stop=late"], r"augment\.delete\.stop must be a number"),
])  # fmt: skip
def test_what_is_wrong_is_told(overrides, said):
    with pytest.raises(UserError, match=said):
        check(compose(overrides))
