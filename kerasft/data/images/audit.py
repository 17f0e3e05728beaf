"""Checks images before training: unreadable, too large, copied, turned."""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft import raw_input
from kerasft.data.policies import policy_problem
from kerasft.errors import UserError, some
from kerasft.system.console import listing

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
# Segments of a JPEG that are passed over in search of its orientation, here and in the network.
EXIF_STEPS = 4096

# What `tf.io.decode_image(channels=3, expand_animations=False)` decodes, by its first bytes, and
# the suffixes under which such a file goes.
FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
}
# Those that are converted before, and these.
READ: dict[str, tuple[str, ...]] = {**FORMATS, **raw_input.FORMATS}
SUFFIXES: tuple[str, ...] = tuple(s for group in READ.values() for s in group)
# Images that the network's decoder does not know: they are named, not passed over.
OTHER_SUFFIXES: tuple[str, ...] = (
    ".tif", ".tiff", ".jp2", ".jxl", ".ppm", ".pgm", ".ico", ".svg",
    ".psd", ".tga", ".raw", ".cr2", ".nef", ".dng",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a look at one image found.

    Args:
        problem: Why it cannot be used, or `None`.
        remark: What is odd but does no harm, or `None`.
    """

    problem: str | None = None
    remark: str | None = None


def sniff_file(path: Path) -> str | None:
    """Return the format of a file; `None` also where there is none that can be read."""
    try:
        if not path.is_file():  # a pipe would never be opened
            return None
        with open(path, "rb") as file:
            return sniff(file.read(32))
    except OSError:
        return None


def sniff(head: bytes) -> str | None:
    """Return the format that the first bytes of a file tell, or `None`."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head.startswith(b"BM") and len(head) >= 14 and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head[4:8] == b"ftyp":
        return raw_input.kind(head) or "a video"
    if head.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
        return "JPEG 2000"
    if head.startswith((b"\0\0\0\x0cJXL ", b"\xff\x0a")):
        return "JPEG XL"
    if head.startswith(b"%PDF"):
        return "PDF"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive"
    if head.lstrip()[:5].lower() in (b"<html", b"<!doc"):
        return "a web page (HTML)"
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<svg>"):
        return "XML or SVG"
    return None


def inspect(image: str | bytes, max_pixels: int = MAX_PIXELS) -> Finding:
    """Look at one image: decode it whole, as the network's decoder will.

    Args:
        image: A path, or encoded bytes.
        max_pixels: The most pixels (width times height) that an image may have.

    Returns:
        A `Finding`; one without a problem says that the image can be used.

    Example:

    >>> inspect(b"").problem
    'it is empty (0 bytes)'
    """
    if isinstance(image, bytes):
        content, suffix = image, None
    else:
        suffix = Path(image).suffix.lower()
        try:
            if Path(image).exists() and not Path(image).is_file():
                return Finding("it is no file")  # reading a pipe would never end
            with open(image, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return Finding("there is no such file")
        except OSError as error:
            return Finding(f"it cannot be read ({error.strerror})")
        except ValueError:
            return Finding("it contains a character that no path can have")
    if not content:
        return Finding("it is empty (0 bytes)")
    if not content.strip(b"\0"):
        return Finding("it holds nothing but zero bytes")
    form = sniff(content[: raw_input.HEAD])
    if form not in READ:
        seen = f"it is {form}" if form else "its first bytes are those of no image"
        return Finding(f"{seen}; decoding knows {', '.join(READ)}")
    finding = _decode(content, form, max_pixels)
    if finding.problem or suffix is None or suffix in READ[form]:
        return finding
    return Finding(remark=f"a {form} by another suffix")


def _decode(content: bytes, form: str, max_pixels: int) -> Finding:
    from PIL import Image

    remark = None
    try:
        with _opened(content, form) as image:
            width, height = image.size
            if width * height > max_pixels:
                return Finding(
                    f"it has {width:,} x {height:,} pixels, more than data.max_pixels={max_pixels}"
                )
            animated = getattr(image, "is_animated", False)
            if form == "WEBP" and animated:
                return Finding("it is an animated WEBP; decoding knows still ones")
            if form == "BMP" and not _plain_bitmap(content, image.mode):
                return Finding("it is a BMP with a palette or packed pixels; save it as PNG")
            if form == "JPEG":
                # Reads the whole stream, but spends a fraction of the time on its pixels.
                image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
            if form == "GIF" and animated:
                # TensorFlow reads all frames even where it hands out the first.
                image.seek(getattr(image, "n_frames", 1) - 1)
                image.load()
                remark = "an animated GIF, of which the first image counts"
            elif form in raw_input.FORMATS and animated:
                remark = f"{form} with several images, of which the first counts"
            elif orientation_of(content, form, image) != 1:
                remark = "turned upright, as the EXIF orientation says"
            if form == "PNG" and _is_dim(content, image):
                remark = (
                    "16 bits of which less than a sixteenth of the range is used, so that they are "
                    "nearly black as they are learned (stretch them to the whole range)"
                )
    except UserError as error:
        return Finding(str(error))
    except Image.DecompressionBombError:
        return Finding(f"it has far more pixels than data.max_pixels={max_pixels}")
    except Image.UnidentifiedImageError:
        return Finding(f"it is broken or cut short (it begins as {form}, and goes on as none)")
    except Exception as error:
        said = str(error).strip() or type(error).__name__
        return Finding(f"it is {form} that is broken or cut short ({said})")
    return Finding(remark=remark)


def _opened(content: bytes, form: str) -> Any:
    from PIL import Image

    if form in raw_input.FORMATS:
        return raw_input.open_image(content, form)
    return Image.open(io.BytesIO(content), formats=[form])


def orientation_of(content: bytes, form: str, image: Image.Image) -> int:
    """Return the EXIF orientation that the network follows, 1 for upright.

    Args:
        content: The file.
        form: Its format.
        image: The same, opened.
    """
    from PIL import Image

    if form not in ("JPEG", "PNG", "WEBP") or (form == "JPEG" and not _has_near_exif(content)):
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        found = exif.get(0x0112)
    except Exception:  # what cannot be read counts as upright, in the decoder too
        return 1
    return found if isinstance(found, int) and 2 <= found <= 8 else 1


def _has_near_exif(content: bytes) -> bool:
    """Whether the orientation of a JPEG is as near to its beginning as the network looks."""
    at = 2
    for _ in range(EXIF_STEPS):
        here = content[at : at + 8]
        if len(here) < 8 or here[:2] in (b"\xff\xd9", b"\xff\xda"):
            return False
        if here[:2] == b"\xff\xe1" and here[4:] == b"Exif":
            return True
        if here[0] != 0xFF or here[1] in (0, 0xFF):
            at += 1
        elif here[1] == 1 or 0xD0 <= here[1] <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(here[2:4], "big")
    return False


def _is_dim(content: bytes, image: Image.Image) -> bool:
    """Whether an image holds 12 bits, say, in 16: decoding keeps the upper 8."""
    if content[24:25] != b"\x10":
        return False
    least, most = 1, 2**12
    extrema = image.getextrema()
    if isinstance(extrema[0], tuple):
        # Pillow has dropped the lower 8 bits already; transparency says nothing.
        colours = extrema[: 1 if image.mode == "LA" else 3]
        extrema, least, most = (0, max(high for _, high in colours)), 0, 2**4
    return least <= extrema[1] < most


def _plain_bitmap(content: bytes, mode: str) -> bool:
    # TensorFlow takes the numbers of a palette for grey values without a word.
    bits = int.from_bytes(content[28:30], "little")
    packing = int.from_bytes(content[30:34], "little")
    return packing in (0, 3) and (bits in (24, 32) or (bits == 8 and mode == "L"))


def audit(
    images: Sequence[Any],
    names: Sequence[str],
    *,
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
    places: Sequence[str] = (),
) -> tuple[list[int], list[str]]:
    """Look at every image, and leave out or refuse those that cannot be used.

    Args:
        images: Paths or encoded bytes.
        names: What each is called in a message.
        broken: `"skip"` leaves the bad ones out and says so, `"fail"` refuses the data.
        max_pixels: The most pixels (width times height) that an image may have.
        places: What a message calls one that cannot be used, where that says more than its name.

    Returns:
        The indices of the images to keep, and sentences for the user.

    Raises:
        UserError: If `broken="fail"` and an image is bad, or if none is good.

    Example:

    >>> audit([b""], ["a.jpg"], broken="fail")
    Traceback (most recent call last):
    ...
    kerasft.errors.UserError: 1 image cannot be used: a.jpg: it is empty (0 bytes). ...
    """
    check_policy(broken, max_pixels)
    findings = _inspect_all(images, max_pixels)
    bad = [f"{(places or names)[i]}: {f.problem}" for i, f in enumerate(findings) if f.problem]
    if bad and (broken == "fail" or len(bad) == len(findings)):
        raise UserError(
            f"{some(len(bad), 'image')} cannot be used: {listing(bad, 20)}. Repair or remove "
            "them" + (", or set data.broken=skip to leave them out." if broken == "fail" else ".")
        )
    notices = []
    if bad:
        notices.append(f"{some(len(bad), 'image')} left out: {listing(bad)}.")
    remarks = Counter(f.remark for f in findings if f.remark)
    for remark, count in sorted(remarks.items()):
        first = [names[i] for i, f in enumerate(findings) if f.remark == remark]
        notices.append(f"{some(count, 'image')}: {remark}: {listing(first, 3)}.")
    return [i for i, f in enumerate(findings) if not f.problem], notices


def check_policy(broken: str, max_pixels: object) -> None:
    """Check the two settings of an audit."""
    if said := policy_problem("data.broken", broken):
        raise UserError(said)
    if isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1:
        raise UserError(
            "data.max_pixels must be a whole number of pixels (width times height), 1 or more. "
            f"Received: data.max_pixels={max_pixels!r}."
        )


def _inspect_all(images: Sequence[Any], max_pixels: int) -> list[Finding]:
    # Pillow decodes outside of Python's lock, so threads help. Its warnings are silenced around
    # the pool, not inside: the filters belong to the whole process.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            look = lambda i: inspect(images[i], max_pixels)  # noqa: E731
            return list(pool.map(look, range(len(images))))
