"""Images of many kinds, small networks, and what exports are made of."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest

from kerasft.rows import Rows
from kerasft.spec import Evidence, Examples, Labels
from kerasft.tasks.classification import Classification

TEXTS = [
    "a good film", "", "naïve café 日本語 🙂", "চমৎকার নাটক", "word " * 200, "A GOOD FILM!",
    "मुझे यह फ़िल्म पसंद है", "שלום עולם مرحبا", "e\u0301 n\u0303 ﬁ \u200d👩‍👩‍👧", "?",
]  # fmt: skip


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts in several scripts, short and long."""
    return list(TEXTS)


def image(
    mode: str, size: tuple[int, int], kind: str, turned: int = 0, **how
) -> bytes:
    from PIL import Image

    if turned:
        how["exif"] = Image.Exif()
        how["exif"][0x0112] = turned
    pixels = np.random.default_rng(sum(size)).integers(0, 255, (size[1], size[0], 4), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(file, kind, **how)
    return file.getvalue()


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Encoded images of several kinds, modes and sizes."""
    return [
        image("RGB", (40, 30), "JPEG", 6), image("L", (17, 50), "JPEG"),
        image("CMYK", (30, 21), "JPEG"), image("RGBA", (64, 64), "PNG"),
        image("L", (9, 9), "PNG"), image("P", (25, 31), "PNG"), image("1", (12, 40), "PNG"),
        image("LA", (18, 18), "PNG", 5), image("RGB", (33, 20), "BMP"),
        image("P", (21, 22), "GIF"), image("RGB", (28, 19), "WEBP", 8),
        image("RGBA", (20, 27), "WEBP"), image("RGBA", (23, 20), "WEBP", lossless=True),
        image("L", (19, 24), "BMP"), image("L", (1, 1), "PNG"),
    ]  # fmt: skip


def of_images(family: str = "resnet", units: int = 3, size: int = 16):
    """Return a tiny model for images and its preprocessing."""
    import keras

    from kerasft.model import tiny
    from kerasft.model.assemble import assemble
    from kerasft.model.heads.pooled import linear

    keras.utils.set_random_seed(1)
    backbone = tiny.image(family, image_size=size)
    model = assemble(backbone, lambda features: linear(features, units=units))
    model.get_layer("head_outputs").kernel.assign(
        np.random.default_rng(1).normal(size=model.get_layer("head_outputs").kernel.shape)
    )
    return model, backbone.preprocess


def of_texts(family: str = "bert", units: int = 3, length: int = 24, pair: bool = False):
    """Return a tiny model for texts and its preprocessing."""
    import keras

    from kerasft.model import tiny
    from kerasft.model.assemble import assemble
    from kerasft.model.heads.pooled import linear

    keras.utils.set_random_seed(1)
    backbone = tiny.text(family, sequence_length=length)
    model = assemble(backbone, lambda features: linear(features, units=units))
    kernel = model.get_layer("head_outputs").kernel
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    return model, backbone.preprocess.paired(pair)


def evidence_of(model, preprocess, raw, labels: Labels, count: int = 60) -> Evidence:
    """Return what a run would have kept: the model's own logits, and labels that mostly agree."""
    from kerasft.exporters.served import Served, raw_examples

    examples = raw_examples(raw, preprocess.modality)
    expected = Served(model, preprocess, Classification(), labels).expected(
        examples, Rows.of({"label": np.zeros(len(examples), "int64")})
    )
    logits = expected.kept["logits"]
    random = np.random.default_rng(0)
    many = random.normal(size=(count, logits.shape[1])).astype("float32") * 3
    if labels.kind == "single":
        y, some = logits.argmax(axis=-1), (many + random.normal(size=many.shape)).argmax(axis=-1)
    elif labels.kind == "multi":
        y, some = (logits > 0).astype("float32"), (many > random.normal(size=many.shape)) * 1.0
    else:
        y, some = logits[:, 0], many[:, 0]
    ids = tuple(f"example {i}" for i in range(len(raw)))
    examples = Examples(preprocess.modality, list(raw), np.asarray(y), ids)
    validation = Rows.of({"label": np.asarray(some)}), Rows.of({"logits": many})
    return Evidence(examples, Rows.of({"logits": logits}), {"validation": validation})


@pytest.fixture(scope="session")
def make():
    """Makers of tiny models and of what a run would have kept of them."""
    return SimpleNamespace(images=of_images, texts=of_texts, evidence=evidence_of)
