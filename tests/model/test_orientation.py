"""EXIF orientations: every format, every turn, every byte order, and bytes that mean harm."""

from __future__ import annotations

import functools
import io
import itertools
import struct
import time
import zlib

import numpy as np
import pytest

from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.vision import images, orientation

ALL = range(1, 9)
PIXELS = np.random.default_rng(3).integers(0, 255, (20, 31, 3), np.uint8)
# Smooth, so that a JPEG loses little.
SMOOTH = np.add.outer(np.arange(0, 120, 6), np.arange(0, 124, 4))[..., None]
SMOOTH = np.repeat(SMOOTH, 3, -1).astype("uint8")


@functools.cache
def reader():
    import tensorflow as tf

    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(orientation.read, input_signature=spec, autograph=False)


@functools.cache
def decoder():
    import tensorflow as tf

    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(images.decode, input_signature=spec, autograph=False)


def read(content: bytes) -> int:
    return int(reader()(content))


def tiff(value: int, order: str = "<", kind: str = "H", further: int = 1, offset: int = 8) -> bytes:
    """A TIFF header and a directory with the orientation after other entries."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", offset)
    entries = [struct.pack(order + "HHII", 0x8000 + i, 4, 1, 7) for i in range(further)]
    code = {"B": 1, "H": 3, "I": 4}[kind]
    entries.append(struct.pack(order + "HHI" + kind, 0x0112, code, 1, value).ljust(12, b"\0"))
    entries.append(struct.pack(order + "HHII", 0x0128, 3, 1, 2))
    return (head.ljust(offset, b"\0") + struct.pack(order + "H", len(entries))
            + b"".join(entries) + b"\0\0\0\0")  # fmt: skip


def image(kind: str, pixels: np.ndarray = PIXELS, **how) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    how = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {}) | how
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def exif(content: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + content)


def jpeg(*before: bytes) -> bytes:
    """A JPEG with segments before all others."""
    plain = image("JPEG", SMOOTH)
    return plain[:2] + b"".join(before) + plain[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(content: bytes, *, last: bool = False) -> bytes:
    """A PNG with many chunks of pixels, and EXIF before or after them."""
    plain = image("PNG")
    start, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    body = plain[start + 8 : end - 4]
    pixels = b"".join(chunk(b"IDAT", body[i : i + 16]) for i in range(0, len(body), 16))
    return plain[:start] + (pixels + chunk(b"eXIf", content) if last else
                            chunk(b"eXIf", content) + pixels) + plain[end:]  # fmt: skip


def webp(content: bytes, *, flags: int = 0x08) -> bytes:
    plain = image("WEBP")
    canvas = struct.pack("<I", flags) + (30).to_bytes(3, "little") + (19).to_bytes(3, "little")
    made = b"VP8X" + struct.pack("<I", 10) + canvas + plain[12:]
    for name, body in ((b"ABCD", b"odd"), (b"EXIF", content)):
        made += name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(made) + 4) + b"WEBP" + made


def seen(content: bytes) -> np.ndarray:
    """What Pillow shows."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))


MAKERS = {
    "JPEG": lambda content: jpeg(exif(content)), "PNG": png, "WebP": webp,
    "PNG, after the pixels": functools.partial(png, last=True),
}  # fmt: skip


@pytest.mark.every(2)
@pytest.mark.parametrize("name", MAKERS)
def test_every_orientation_is_shown_as_pillow_shows_it(name):
    for order, value in itertools.product("<>", ALL):
        content = MAKERS[name](tiff(value, order))
        got, wanted = decoder()(content).numpy(), seen(content)
        assert got.shape == wanted.shape, (order, value)
        assert got.shape[:2] == ((20, 31) if value < 5 else (31, 20))
        if name == "JPEG":
            # Their inverse transforms round differently; another turn is 100 apart.
            assert np.abs(got.astype(int) - wanted).max() <= 8, (order, value)
        else:
            np.testing.assert_array_equal(got, wanted, str((order, value)))


XMP = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='3' Exif\0\0/>")
T = tiff(6, ">")
PLACES = {
    "XMP first": jpeg(XMP, exif(T)),
    "many segments before": jpeg(*[segment(0xE0 + i % 16, bytes(i)) for i in range(2, 300)
                                   if i % 16 != 1], exif(T)),
    "long segments before": jpeg(*[segment(0xE2, bytes(65_000))] * 5, exif(T)),
    "a thumbnail with markers before": jpeg(segment(0xED, b"\xff\xd8\xff\xda\xff\xd9"), exif(T)),
    "fill bytes": jpeg(b"\xff" * 200 + XMP, b"\xff" * 7 + exif(T)),
    "bytes between segments": jpeg(XMP, b"\0\0abc" + exif(T)),
    "a comment and tables before": jpeg(segment(0xFE, b"hello"), exif(T)),
    "garbage behind the directory": jpeg(exif(T + bytes(range(256)) * 20)),
    "a directory far behind": jpeg(exif(tiff(6, "<", offset=5000))),
    "LONG, big-endian": jpeg(exif(tiff(6, ">", "I"))),
    "LONG, little-endian": jpeg(exif(tiff(6, "<", "I"))),
    "many entries": jpeg(exif(tiff(6, further=300))),
    "the first of two": jpeg(exif(T), exif(tiff(3))),
    "a prefix in PNG": png(b"Exif\0\0" + T),
    "a prefix in WebP": webp(b"Exif\0\0" + T),
    "two prefixes in WebP": webp(b"Exif\0\0Exif\0\0" + T),
    "a large PNG": image("PNG", np.random.default_rng(0).integers(0, 255, (300, 300, 3), "uint8"),
                         exif=T),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_wherever_the_orientation_lies_it_is_found(name):
    assert read(PLACES[name]) == 6


UPRIGHT = {
    "nothing": b"", "a few bytes": b"\xff\xd8\xff", "no EXIF": image("JPEG"),
    "XMP alone": jpeg(XMP), "EXIF behind the pixels": image("JPEG") + exif(T),
    "an empty segment": jpeg(exif(b"")), "no TIFF": jpeg(exif(b"XX" + T[2:])),
    "a directory outside": jpeg(exif(T[:4] + b"\xff\xff\xff\xf0" + T[8:])),
    "zero": jpeg(exif(tiff(0))), "nine": jpeg(exif(tiff(9))),
    "65,536": jpeg(exif(tiff(2**16, "<", "I"))), "2^32 - 1": jpeg(exif(tiff(2**32 - 1, ">", "I"))),
    "a byte": jpeg(exif(tiff(6, "<", "B"))), "cut": jpeg(exif(T))[:30],
    "two values": jpeg(exif(T.replace(b"\x01\x12\0\3\0\0\0\1", b"\x01\x12\0\3\0\0\0\2"))),
    "a length past the end": b"\xff\xd8\xff\xe1\xff\xffExif\0\0",
    "a length of nothing": b"\xff\xd8" + b"\xff\xe0\0\0" * 50,
    "no flag in WebP": webp(T, flags=0),
    "EXIF behind the end of a PNG": image("PNG") + chunk(b"eXIf", T),
    "a GIF with the name": b"GIF89a" + exif(T),
}  # fmt: skip


@pytest.mark.parametrize("name", UPRIGHT)
def test_what_cannot_be_read_counts_as_upright(name):
    assert read(UPRIGHT[name]) == 1


@pytest.mark.slow
def test_a_turned_image_is_prepared_as_the_upright_one():
    upright = image("PNG")
    for resize in ("crop", "pad", "stretch"):
        ready = ImagePreprocess(24, 16, resize=resize)
        wanted = ready([upright]).numpy()[0]
        for value in ALL:
            stored = image("PNG", stored_as(PIXELS, value), exif=tiff(value))
            np.testing.assert_array_equal(ready([stored]).numpy()[0], wanted)
            np.testing.assert_array_equal(ready.decode(stored), wanted)


def stored_as(pixels: np.ndarray, value: int) -> np.ndarray:
    """Return upright pixels as they are stored with an orientation."""
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if value >= 5 else pixels)


def plainly(content: bytes) -> int:
    """Read the orientation without a graph."""
    size, start, end = len(content), 0, 0
    if content[:3] == b"\xff\xd8\xff":
        at = 2
        while at < size and not end:
            part = content[at : at + 10].ljust(10, b"\0")
            length = int.from_bytes(part[2:4], "big")
            if part[0] != 0xFF or part[1] in (0, 0xFF):
                at += 1
            elif part[1] in (0xD9, 0xDA):
                break
            elif part[1] == 1 or 0xD0 <= part[1] <= 0xD8:
                at += 2
            elif part[1] == 0xE1 and part[4:8] == b"Exif":
                start, end = at + 4, at + 2 + length
            else:
                at += 2 + length
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at < size and not end:
            length, name = struct.unpack(">I4s", content[at : at + 8].ljust(8, b"\0"))
            if name == b"IEND":
                break
            if name == b"eXIf":
                start, end = at + 8, at + 8 + length
            at += 12 + length
    elif content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X" and content[20] & 8:
        at = 12
        while at < size and not end:
            name, length = struct.unpack("<4sI", content[at : at + 8].ljust(8, b"\0"))
            if name == b"EXIF":
                start, end = at + 8, at + 8 + length
            at += 8 + length + length % 2
    part = content[start : min(end, size)] if end else b""
    for _ in range(2):
        part = part.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(part[:4])
    if order is None or len(part) < 8:
        return 1
    at = struct.unpack(order + "I", part[4:8])[0]
    count = int.from_bytes(part[at : at + 2], "little" if order == "<" else "big")
    for i in range(count):
        entry = part[at + 2 + 12 * i : at + 14 + 12 * i]
        if len(entry) < 12:
            break
        tag, kind, values = struct.unpack(order + "HHI", entry[:8])
        if tag == 0x0112:
            known = {3: "H", 4: "I"}.get(kind) if values == 1 else None
            size = 2 if known == "H" else 4
            value = struct.unpack(order + known, entry[8 : 8 + size])[0] if known else 1
            return value if 1 <= value <= 8 else 1
    return 1


@pytest.mark.slow
def test_bytes_that_were_changed_give_what_they_say_and_never_fail():
    random = np.random.default_rng(0)
    bases = [make(tiff(value, order)) for make in MAKERS.values()
             for value, order in ((6, "<"), (3, ">"))]  # fmt: skip
    bases += [jpeg(XMP, b"\xff\xff" + exif(T)), webp(b"Exif\0\0" + T), png(b"Exif\0\0" + T)]
    found = set()
    for number in range(1500):
        content = bytearray(bases[number % len(bases)])
        # Mostly where the EXIF is; anywhere now and then.
        name = next(n for n in (b"II*\0", b"MM\0*") if n in content)
        near = content.index(name)
        for _ in range(random.integers(1, 5)):
            place = near + int(random.integers(-14, 40)) if random.random() < 0.9 else 12
            value = int(random.choice([0, 1, 6, 0x12, 0x7F, 0x80, 0xFF, random.integers(256)]))
            content[min(place, len(content) - 1)] = value
        if random.random() < 0.2:
            del content[int(random.integers(len(content))) :]
        if random.random() < 0.2:  # so large that it is not searched for names before
            content += bytes(70_000)
        wanted = plainly(bytes(content))
        assert read(bytes(content)) == wanted, (number, bytes(content[:200]))
        found.add(wanted)
    assert found >= {1, 3, 6}


def test_files_that_are_made_to_take_long_do_not():
    hostile = [
        b"\xff\xd8" + b"\xff" * 10**6, b"\xff\xd8\xff" + bytes(10**6),
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 10**5, b"\xff\xd8" + b"\xff\xd0" * 10**5,
        b"\x89PNG\r\n\x1a\n" + b"".join(chunk(b"abcd", bytes(i % 7)) for i in range(10**5)),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 10**6,
        b"RIFF\0\0\0\0WEBPVP8X" + b"\x08\0\0\0\x08\0\0\0" + bytes(10**6),
        jpeg(exif(b"II*\0\x08\0\0\0\xff\xff" + b"\x11\x01" * 32_000)),
    ]  # fmt: skip
    for content in hostile:
        begun = time.process_time()
        assert read(content) == 1
        assert time.process_time() - begun < 10
