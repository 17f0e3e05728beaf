"""MixUp and CutMix of Keras, which can end before training does."""

from __future__ import annotations

import keras

from kerasft.data import ending


@keras.saving.register_keras_serializable("kerasft")
class MixUp(keras.layers.MixUp):
    """Averages two images of the batch, and their labels with the same weights.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017,
    <https://arxiv.org/abs/1710.09412>. It is `keras.layers.MixUp`, and can end earlier.

    Args:
        alpha: The weights are of Beta(alpha, alpha): 0.2 leaves most images nearly as they are.
        stop: When it ends: the share of all epochs after which images stay as they are, above 0
            and at most 1 (0.9 leaves the last tenth without, rounded so that at least the last
            epoch is; 1 never stops), or a negative whole number (-5 leaves the last five epochs
            without). The epochs of all stages count, as planned.

    Example:
        `kerasft train augment=mixup augment.mixup.alpha=0.4 augment.mixup.stop=-5`

        >>> MixUp(alpha=0.4, stop=-5).stop
        -5
    """

    def __init__(self, alpha=0.2, stop=1.0, **kwargs):
        super().__init__(alpha=alpha, **kwargs)
        ending.check(stop)
        self.stop = stop

    def get_config(self):
        return {**super().get_config(), "stop": self.stop}


@keras.saving.register_keras_serializable("kerasft")
class CutMix(keras.layers.CutMix):
    """Pastes a patch of another image of the batch, and mixes the labels by the areas.

    Yun et al., "CutMix", 2019, <https://arxiv.org/abs/1905.04899>. It is `keras.layers.CutMix`, and
    can end earlier.

    Args:
        factor: From where to where the share of the patch is drawn: below this number, or between
            two.
        stop: When it ends: the share of all epochs after which images stay as they are, above 0
            and at most 1 (0.9 leaves the last tenth without, rounded so that at least the last
            epoch is; 1 never stops), or a negative whole number (-5 leaves the last five epochs
            without). The epochs of all stages count, as planned.

    Example:
        `kerasft train augment=cutmix augment.cutmix.stop=0.8`

        >>> CutMix(stop=0.8).stop
        0.8
    """

    def __init__(self, factor=1.0, stop=1.0, **kwargs):
        super().__init__(factor=factor, **kwargs)
        ending.check(stop)
        self.stop = stop

    def get_config(self):
        return {**super().get_config(), "stop": self.stop}
