"""The learning rate of a network that nobody gave one."""

from __future__ import annotations

import pytest

from kerasft.model.usual_rate import usual_rate


@pytest.mark.parametrize(("size", "text", "pretrained", "rate"), [
    (327_866, False, True, 1e-3),  # the carried ResNet
    (410_208, False, True, 3e-4),  # MobileNetV2 0.35
    (1_832_976, False, True, 2e-4),  # MobileNet 0.75
    (23_600_000, False, True, 1e-4),  # ResNet50
    (410_208, False, False, 1e-3), (23_600_000, False, False, 3e-4),
    (24_674, True, False, 1e-3), (22_600_000, True, True, 1e-4), (110_000_000, True, True, 5e-5),
    (400_000_000, True, True, 2e-5), (110_000_000, True, False, 5e-5),
])  # fmt: skip
def test_what_documentation_says_is_what_is_taken(size, text, pretrained, rate):
    assert usual_rate(size, text=text, pretrained=pretrained) == rate
