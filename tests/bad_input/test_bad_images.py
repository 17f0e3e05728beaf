"""Images that are none, folders that hold no classes, and archives that are made to harm."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib

import numpy as np
import pytest


def png(number: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image(form: str, number: int = 0) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(png(number, (32, 32)))).save(file, form)
    return file.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that declares 3.6 gigapixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def classes(*names: str, count: int = 4) -> dict[str, bytes]:
    """Return the files of so many sound images a class."""
    return {f"photos/{name}/{i}.png": png(hash((name, i)) % 2**31)
            for name in names for i in range(count)}  # fmt: skip


def zipped(*members) -> bytes:
    """Return a zip of pairs (name or ZipInfo, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def link(name: str, to: str, kind: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, str]:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member, to


def secret() -> bytes:
    """A zip whose only member says that it is encrypted."""
    content = bytearray(zipped(("cats/1.png", png())))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


def train(further: str = "") -> str:
    return f"train data=image_folder data.path=photos backbone=tiny_resnet progress=false {further}"


SOUND = classes("cats", "dogs")

# Each is one image among sound ones; name: (file, content, what is said of it)
IMAGES = {
    "zero bytes": ("bad.png", b"", "it is empty (0 bytes)"),
    "zeros alone": ("bad.jpg", bytes(300), "nothing but zero bytes"),
    "half a JPEG": ("bad.jpg", image("JPEG")[:400], "bad.jpg"),
    "half a PNG": ("bad.png", png(1, (64, 64))[:2000], "bad.png"),
    "half a GIF": ("bad.gif", image("GIF")[:300], "bad.gif"),
    "half a WebP": ("bad.webp", image("WEBP")[:100], "bad.webp"),
    "half a BMP": ("bad.bmp", image("BMP")[:300], "bad.bmp"),
    "a head alone": ("bad.jpg", b"\xff\xd8\xff\xe0", "bad.jpg"),
    "a text": ("bad.png", "not an image", "those of no image"),
    "a web page": ("bad.jpg", "<!DOCTYPE html><html>404</html>", "a web page (HTML)"),
    "a zip": ("bad.jpg", zipped(("a", "b")), "a zip archive"),
    "a PDF": ("bad.png", b"%PDF-1.7\n", "it is PDF"),
    "an SVG": ("bad.svg", "<svg xmlns='x'/>", "XML or SVG"),
    "a TIFF": ("bad.tif", image("TIFF"), "it is TIFF"),
    "a HEIC": ("bad.heic", b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
    "a PNG with a wrong check sum": ("bad.png", png(1)[:45] + b"\xff" + png(1)[46:], "bad.png"),
    "a bomb of pixels": ("bad.png", bomb(), "data.max_pixels"),
    "a long bomb": ("bad.png", bomb(2_000_000_000, 1), "data.max_pixels"),
    "more pixels than allowed": ("bad.png", png(1, (300, 300)), "data.max_pixels"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", IMAGES)
def test_a_broken_image_is_named_where_all_must_be_sound(name, put, refuses):
    file, content, *said = IMAGES[name]
    put(SOUND | {f"photos/cats/{file}": content})
    limit = "data.max_pixels=40000 " if name.startswith("more") else ""
    refuses(train(f"{limit}data.broken=fail"), f"cats/{file}", *said, started=True)


# name: (files, further overrides, what the message says)
FOLDERS = {
    "an empty folder": ({"photos/": ""}, "", "holds no class folders", "an empty folder"),
    "images in no folder": ({"photos/1.png": png()}, "", "holds no class folders", "1 image"),
    "one class": (classes("cats"), "", "at least 2 classes", "'cats'"),
    "one class and an empty one": (classes("cats") | {"photos/dogs/": ""}, "", "'cats'", "dogs"),
    "texts alone": ({"photos/a/1.txt": "x", "photos/b/1.txt": "y"}, "", "holds no images"),
    "a class of broken images": (classes("cats") | {"photos/dogs/1.png": "x"}, "",
                                   "class 'dogs'", "dogs/1.png"),
    "too few": (classes("cats", "dogs", count=1), "", "none for"),
    "a test without train": ({f"photos/{s}/{c}/1.png": png() for s in ("val", "test")
                              for c in "ab"}, "", "no train folder"),
    "a class for the test alone": (
        {f"photos/{s}/{c}/{i}.png": png(hash((s, c, i)) % 2**31) for s in ("train", "test")
         for c in ("a", "b", s) for i in range(4)}, "", "'test'", "never in train"),
    "train twice": ({f"photos/{s}/{c}/1.png": png() for s in ("train", "training")
                     for c in "ab"}, "", "several folders for one split"),
    "classes that differ by case": (classes("cats", "Cats", "dogs"), "", "'Cats' and 'cats'"),
    "a policy that is none": (SOUND, "data.broken=ignore", "data.broken", "'ignore'"),
    "no pixels allowed": (SOUND, "data.max_pixels=0", "data.max_pixels"),
    "a group that is no expression": (SOUND, "'data.group=\"(\"'", "data.group"),
    "a group that finds nothing": (SOUND, "'data.group=\"(patient)\"'", "data.group", "0.png"),
    "names of other classes": (SOUND, "data.label_names=[cats,cows]", "'dogs'"),
    "a file that is a folder": ({"photos": "not a folder"}, "", "a file"),
    "nothing there": ({}, "", "data.path=photos"),
    "texts for a text network": (SOUND, "backbone=tiny_bert", "images"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_gets_one_message(name, put, refuses):
    files, further, *said = FOLDERS[name]
    put(files)
    refuses(train(f"batch_size=2 {further}"), *said, started=True)


# name: (content of photos.zip, what the message says)
ARCHIVES = {
    "a name with ..": (zipped(("../../escaped.png", png())), "lead out", "'../../escaped.png'"),
    "a name with .. inside": (zipped(("cats/../../escaped.png", png())), "lead out", "escaped"),
    "an absolute name": (zipped(("/tmp/escaped.png", png())), "lead out", "'/tmp/escaped.png'"),
    "a name with a drive": (zipped(("C:/escaped.png", png())), "lead out", "'C:/escaped.png'"),
    "a name with backslashes": (zipped(("..\\escaped.png", png())), "lead out", "escaped.png"),
    "a device": (zipped(link("cats", "", stat.S_IFCHR)), "holds devices", "'cats'"),
    "a pipe": (zipped(link("cats", "", stat.S_IFIFO)), "devices, pipes or sockets", "'cats'"),
    "a link": (zipped(link("cats", "/etc"), ("dogs/1.png", png())), "holds links", "'cats'"),
    "zeros for an image": (zipped(("cats/1.png", bytes(2 * 2**20)), ("a", b"")),
                            "cats/1.png: it holds nothing but zero bytes"),
    "a password": (secret(), "encrypted", "'cats/1.png'"),
    "two of one name": (lambda: None, "several files of one name"),
    "cut off": (zipped(("cats/1.png", png()))[:-30], "broken, or no zip archive"),
    "spoilt inside": (lambda: None, "broken, or no zip archive"),
    "no zip": (b"not a zip at all", "broken, or no zip archive"),
    "zero bytes": (b"", "broken, or no zip archive"),
    "a zip of nothing": (zipped(), "holds no files"),
    "texts": (zipped(("a/1.txt", "x"), ("b/1.txt", "y")), "holds no images"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_gets_one_message(name, put, refuses):
    content, *said = ARCHIVES[name]
    if name == "two of one name":
        content = zipped(("cats/1.png", png(1)), ("cats/1.png", png(2)))
    if name == "spoilt inside":
        content = bytearray(zipped(("cats/1.png", png(1)), ("dogs/1.png", png(2))))
        content[60:90] = bytes(30)
    put({"photos.zip": bytes(content)})
    # An archive that is sound, whatever is in it, stays unpacked.
    sound = name in ("zeros for an image", "texts", "spoilt inside")
    kept = "unpacked" if sound else "/"
    refuses(train().replace("photos", "photos.zip"), *said, started=True, kept=kept)


def test_an_archive_that_would_fill_the_disk(put, refuses, monkeypatch):
    from kerasft.data.images import archive

    monkeypatch.setattr(archive, "SMALL_BYTES", 2**20)
    put({"photos.zip": zipped(("cats/1.png", bytes(2**22)))})
    refuses(train().replace("photos", "photos.zip"), "would unpack to", "4,194,304", started=True)


LISTED = "".join(f"photos/cats/{i}.png,cat\nphotos/dogs/{i}.png,dog\n" for i in range(4))

# Tables that say which image is what; name: (content, further, what the message says)
LISTS = {
    "an image that is not there": ("photos/none.png,cat\n", "data.broken=fail",
                                    "there is no such"),
    "no path": (" ,cat\n", "", "list.csv:10", "path of an image in each row"),
    "a folder for an image": ("photos/cats,cat\n", "data.broken=fail", "list.csv:10"),
    "a path too long": (f"{'x' * 400},cat\n", "data.broken=fail", "list.csv:10"),
    "a text for an image": ("list.csv,cat\n", "data.broken=fail", "those of no image"),
    "no label": ("photos/cats/0.png,\n", "", "list.csv:10"),
    "an unknown column": ("", "data.image=photo", "no column 'photo'", "'photo'"),
}  # fmt: skip


@pytest.mark.every(3)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_images_gets_one_message(name, put, refuses):
    content, further, *said = LISTS[name]
    put(SOUND | {"list.csv": f"image,label\n{LISTED}{content}"})
    refuses(
        "train data=table data.path=list.csv data.image=image data.label=label "
        f"backbone=tiny_resnet batch_size=2 progress=false {further}", *said, started=True,
    )
