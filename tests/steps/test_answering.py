"""Images that cannot be read are left out; for another error nothing is tried again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerasft.errors import Unreadable, UserError
from kerasft.steps.answers.answering import answer_sound


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    for number in range(8):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(f"{number}.png")
    return [f"{number}.png" for number in range(8)]


def test_an_error_that_names_no_image_is_told_at_once(images):
    asked = []

    def answer(inputs):
        asked.append(len(inputs))
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        answer_sound(answer, images, asked.append)
    Path("3.png").write_bytes(b"cut")
    with pytest.raises(UserError, match="the disk is full"):
        answer_sound(answer, images, asked.append)
    assert asked == [8, 8]


def test_what_one_image_makes_fail_is_found_by_halves(images):
    Path("3.png").write_bytes(b"cut")
    told = []

    def answer(inputs):
        if bad := {"3.png", "5.png"} & {*inputs}:
            raise Unreadable(f"one of {sorted(bad)} cannot be read")
        return {"value": np.arange(len(inputs))}

    outputs, answered = answer_sound(answer, images, told.append)
    assert answered == ["0.png", "1.png", "2.png", "4.png", "6.png", "7.png"]
    assert len(outputs["value"]) == 6
    assert len(told) == 2 and "3.png" in told[0] and "5.png" in told[1]
