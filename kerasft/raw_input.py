"""Raw input: texts and encoded images as what a preprocessing and a signature take.

Images that TensorFlow does not decode are converted: HEIC and AVIF become PNG. This is done
where an image is read, for training and for `predict` alike: an export is sent the PNG. What a
client sends to a server by itself comes to TensorFlow as it is, and is refused there.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.errors import UserError

# The formats, and the suffixes under which their files go.
FORMATS: dict[str, tuple[str, ...]] = {
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif", ".avifs"),
}
# What an ISO media file says that it is, or that it can be read as.
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
# How much of a file `kind` looks at.
HEAD = 64
# As many as Pillow decodes of any format.
_MOST_PIXELS = 178_956_970
# The second one writes HEIC too, and is under the GPL for that.
_READERS = ("pi_heif", "pillow_heif")


def as_raw(values: Sequence[Any], modality: str) -> np.ndarray:
    """Return raw values as what a preprocessing and a signature take: an object array of bytes.

    Args:
        values: Texts, pairs of texts, encoded images, or paths of images, which are read.
        modality: `"text"` or `"images"`.

    Returns:
        `[N]`, or `[N, 2]` for pairs. Images that TensorFlow does not decode are converted.

    Raises:
        UserError: If an image cannot be converted.
    """

    def plain(value: Any) -> bytes:
        if modality != "images":
            return value if isinstance(value, bytes) else str(value).encode()
        content = value if isinstance(value, bytes) else Path(value).read_bytes()
        try:
            return as_decodable(content)
        except UserError as error:
            name = "An image" if content is value else f"The image {str(value)!r}"
            raise UserError(f"{name} cannot be used: {error}.") from error

    rows = list(values)
    if rows and isinstance(rows[0], (tuple, list, np.ndarray)):
        flat = [plain(value) for row in rows for value in row]
        shape: tuple[int, ...] = (len(rows), len(rows[0]))
    else:
        flat, shape = [plain(value) for value in rows], (len(rows),)
    raw = np.empty(len(flat), object)
    raw[:] = flat
    return raw.reshape(shape)


def kind(head: bytes) -> str | None:
    """Return `"HEIC"` or `"AVIF"` for the first bytes of such a file, else `None`.

    Example:
        >>> kind(b"\\0\\0\\0\\x18ftypmif1\\0\\0\\0\\0mif1avif")
        'AVIF'
    """
    if head[4:8] != b"ftyp":
        return None
    box = head[: min(int.from_bytes(head[:4], "big"), HEAD)]
    brands = {box[8:12], *(box[i : i + 4] for i in range(16, len(box), 4))}
    return next((name for name, known in _BRANDS.items() if brands & set(known)), None)


def as_decodable(content: bytes) -> bytes:
    """Return an encoded image as one that TensorFlow decodes.

    Args:
        content: A file of any format.

    Returns:
        A PNG of the first image, upright, for HEIC and AVIF; all else as it is.

    Raises:
        UserError: If it is damaged, or no installed package reads it.
    """
    form = kind(content[:HEAD])
    if form is None:
        return content
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_image(content, form) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise UserError(
                        f"it has {image.width:,} x {image.height:,} pixels, more than are decoded"
                    )
                file = io.BytesIO()
                # Of transparent pixels the colours count, as in the other formats.
                upright = ImageOps.exif_transpose(image).convert("RGB")
                upright.save(file, "PNG", compress_level=1)
        except UserError:
            raise
        except Exception as error:
            said = str(error).strip() or type(error).__name__
            raise UserError(f"it is {form} that is broken or cut short ({said})") from error
    return file.getvalue()


def open_image(content: bytes, form: str) -> Any:
    """Return a HEIC or an AVIF as Pillow's image, whose pixels are not decoded yet.

    Raises:
        UserError: If no installed package reads it; with the command that installs one.
    """
    from PIL import Image, features

    if form == "HEIC":
        return _heif().HeifImageFile(io.BytesIO(content))
    if not features.check("avif"):
        raise UserError(
            "it is AVIF, which the installed Pillow does not read: pip install -U 'pillow>=11.3'"
        )
    return Image.open(io.BytesIO(content), formats=["AVIF"])


def values_of(encoded: bytes) -> np.ndarray:
    """Return the values of an encoded image as they are, of a mask the numbers of classes."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)


def _heif() -> Any:
    for name in _READERS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UserError(
        "it is HEIC, which needs one more package: pip install 'kerasft[heif]'. Or save it as "
        "JPEG or PNG"
    )
