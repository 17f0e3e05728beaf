"""HEIC and AVIF become images that TensorFlow decodes."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from kerasft import raw_input
from kerasft.data.images.audit import inspect
from kerasft.errors import UserError
from kerasft.raw_input import as_decodable, as_raw, kind

# Red above, blue below, white on the right: 48 x 32 pixels.
HEIC = base64.b64decode("""
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAP0AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNw
AAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFz
wIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAADAAAAABAAAAIAAAAAH////wAAAA
Av///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAQVtZGF0AAAA+SgBrwT47Fro4w3+
02l//y1fv/2V3LfPjL/EKxL+xpT//lo2SXI4jLi/ihsK3R5E4ToAL8VeFq7ZUgSwyhKap4RHgUCvi8H18vBxb+oDvQhPhLp4
ua0HFl5K6S6Bmyd1iOGb7I32nYuLzbQQutLnE8TgWoRc316tdL78wwfedTn3iPgTdfaNILr1cTSRg+gdFTtE3SDA8dtxOQsn
VesSG2tKnVh8JGjI1Xq5gqZcU/PvZhgPd1H3Fpfk0nOYgEKPzPTacw3JLxlBxbc2IxpWiNOLPVDZF3VxBUc1UjCfS1J+0e+0
ClY1STatAnZ4w96N2EGbAcgJG7Dy4A==
""")


def pixels() -> np.ndarray:
    made = np.zeros((32, 48, 3), "uint8")
    made[:16], made[16:], made[:, 36:] = (200, 60, 40), (40, 80, 200), 240
    return made


def avif(**how) -> bytes:
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "AVIF", quality=90, **how)
    return file.getvalue()


def decoded(content: bytes) -> np.ndarray:
    from kerasft.model.vision import images

    return images.decode(images.refuse_others([content])[0]).numpy().astype(int)


def test_a_heic_becomes_a_png():
    pytest.importorskip("pi_heif")
    assert inspect(HEIC).problem is None
    assert "max_pixels" in inspect(HEIC, max_pixels=100).problem
    (made,) = as_raw([HEIC], "images")
    assert np.abs(decoded(made) - pixels()).mean() < 3


def test_an_avif_becomes_a_png_that_stands_upright():
    assert np.abs(decoded(as_decodable(avif())) - pixels()).mean() < 3
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert inspect(avif(exif=exif)).problem is None
    turned = decoded(as_decodable(avif(exif=exif)))
    assert np.abs(turned - np.rot90(pixels(), -1)).mean() < 3


def test_what_is_broken_is_said(tmp_path):
    file = tmp_path / "cut.avif"
    file.write_bytes(avif()[:-60])
    with pytest.raises(UserError, match=r"cut\.avif' cannot be used: it is AVIF that is broken"):
        as_raw([str(file)], "images")
    assert inspect(str(file)).problem


def test_without_a_reader_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(raw_input, "_READERS", ("no_such_package",))
    assert "pip install 'kerasft[heif]'" in inspect(HEIC).problem
    with pytest.raises(UserError, match=r"An image cannot be used: .*kerasft\[heif\]"):
        as_raw([HEIC], "images")


def test_kinds_are_told_by_their_brands():
    box = b"\0\0\0\x1cftyp%b\0\0\0\0mif1%bmiaf"
    assert kind(box % (b"heic", b"heix")) == kind(HEIC) == "HEIC"
    assert kind(box % (b"mif1", b"avif")) == "AVIF"
    assert kind(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42") is None
    assert inspect(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42").problem.startswith("it is a video")
    png = b"\x89PNG, or anything else"
    assert as_decodable(png) is png


def test_a_graph_refuses_them_by_name():
    import tensorflow as tf

    from kerasft.model.preprocess import ImagePreprocess

    with pytest.raises(tf.errors.InvalidArgumentError, match="HEIC, AVIF or a video"):
        ImagePreprocess(8, 8)([HEIC])
