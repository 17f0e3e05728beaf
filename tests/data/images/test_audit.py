import io
import zlib

import numpy as np
import pytest
from PIL import Image

from kerasft.data.images.audit import EXIF_STEPS, FORMATS, audit, inspect, sniff
from kerasft.errors import UserError
from kerasft.model.vision import images, orientation

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))
TURNED = IMAGE.rotate(90)
CLEAR = IMAGE.convert("RGBA")
CLEAR.putalpha(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(40, 30)))


def encode(image, form, **settings):
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def grey16():
    return Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(40, 30) * 50)


def animated(form):
    return encode(IMAGE, form, save_all=True, append_images=[TURNED])


GOOD = {
    "jpeg": encode(IMAGE, "JPEG"),
    "jpeg cmyk": encode(IMAGE.convert("CMYK"), "JPEG"),
    "jpeg grey": encode(IMAGE.convert("L"), "JPEG"),
    "jpeg progressive": encode(IMAGE, "JPEG", progressive=True),
    "mpo": encode(IMAGE, "MPO"),
    "png": encode(IMAGE, "PNG"),
    "png rgba": encode(IMAGE.convert("RGBA"), "PNG"),
    "png grey": encode(IMAGE.convert("L"), "PNG"),
    "png grey alpha": encode(IMAGE.convert("LA"), "PNG"),
    "png palette": encode(IMAGE.convert("P"), "PNG"),
    "png 1 bit": encode(IMAGE.convert("1"), "PNG"),
    "png 16 bit": encode(grey16(), "PNG"),
    "png animated": animated("PNG"),
    "gif": encode(IMAGE, "GIF"),
    "gif animated": animated("GIF"),
    "bmp": encode(IMAGE, "BMP"),
    "bmp grey": encode(IMAGE.convert("L"), "BMP"),
    "bmp rgba": encode(IMAGE.convert("RGBA"), "BMP"),
    "webp": encode(IMAGE, "WEBP"),
    "webp rgba": encode(IMAGE.convert("RGBA"), "WEBP"),
    "webp lossless": encode(IMAGE, "WEBP", lossless=True),
    "webp clear": encode(CLEAR, "WEBP"),
    "webp clear lossless": encode(CLEAR, "WEBP", lossless=True),
    "webp clear noted": encode(CLEAR, "WEBP", lossless=True, icc_profile=b"x" * 200),
    "webp noted": encode(IMAGE, "WEBP", lossless=True, icc_profile=b"x" * 200),
    "png clear": encode(CLEAR, "PNG"),
    "gif clear": encode(CLEAR, "GIF"),
}
BAD = {
    "empty": (b"", "empty"),
    "zeros": (bytes(500), "zero bytes"),
    "noise": (b"hello, I am a text", "no image"),
    "html": (b"<!DOCTYPE html><html>not found</html>", "HTML"),
    "tiff": (encode(IMAGE, "TIFF"), "TIFF"),
    "jpeg 2000": (encode(IMAGE, "JPEG2000"), "JPEG 2000"),
    "ppm": (encode(IMAGE, "PPM"), "no image"),
    "bmp palette": (encode(IMAGE.convert("P"), "BMP"), "palette"),
    "bmp 1 bit": (encode(IMAGE.convert("1"), "BMP"), "palette"),
    "webp animated": (animated("WEBP"), "animated"),
    "webp animated clear": (
        encode(CLEAR, "WEBP", save_all=True, append_images=[CLEAR.rotate(90)]), "animated"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(28), "no image"),
    "jpeg cut": (GOOD["jpeg"][:-300], "cut short"),
    "png cut": (GOOD["png"][:-300], "cut short"),
    "gif cut": (GOOD["gif"][: len(GOOD["gif"]) // 2], "cut short"),
    "webp cut": (GOOD["webp"][:-100], "cut short"),
    "bmp cut": (GOOD["bmp"][:-300], "cut short"),
    "jpeg head alone": (GOOD["jpeg"][:20], "broken"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_let_in_is_decoded_as_the_network_will(name):
    assert inspect(GOOD[name]).problem is None
    decoded = images.decode(images.refuse_others([GOOD[name]])[0]).numpy()
    with Image.open(io.BytesIO(GOOD[name])) as image:
        assert decoded.shape == (image.height, image.width, 3)
        if "16" not in name:
            expected = np.asarray(image.convert("RGBA").convert("RGB"), dtype=float)
            assert np.abs(decoded - expected).mean() < 8


@pytest.mark.parametrize("name", BAD)
def test_what_is_kept_out(name):
    content, said = BAD[name]
    assert said in inspect(content).problem


@pytest.mark.parametrize("name", BAD)
def test_nothing_good_is_kept_out(name):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode(images.refuse_others([BAD[name][0]])[0])


def test_too_many_pixels():
    assert "30 x 40" in inspect(GOOD["png"], max_pixels=1199).problem
    assert inspect(GOOD["png"], max_pixels=1200).problem is None


def test_decompression_bomb_without_its_pixels():
    # A header that promises 60,000 x 60,000 pixels; Pillow itself refuses so many.
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    check = zlib.crc32(head).to_bytes(4, "big")
    bomb = GOOD["png"][:12] + head + check + GOOD["png"][33:]
    assert "max_pixels" in inspect(bomb).problem


def test_wrong_suffix_is_a_remark_and_turning_too(tmp_path):
    (tmp_path / "a.jpg").write_bytes(GOOD["png"])
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "b.JPG").write_bytes(encode(IMAGE, "JPEG", exif=exif))
    kept, notices = audit([str(tmp_path / "a.jpg"), str(tmp_path / "b.JPG")], ["a", "b"])
    assert kept == [0, 1]
    assert any("PNG by another suffix: a" in n for n in notices)
    assert "1 image: turned upright, as the EXIF orientation says: b." in notices


def test_an_exif_that_cannot_be_read_does_no_harm():
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"):
        assert audit([encode(IMAGE, "JPEG", exif=exif)], ["a"]) == ([0], [])


def test_skip_names_the_first_and_fail_names_all():
    images = [GOOD["png"], *[b""] * 7]
    names = [f"{i}.png" for i in range(8)]
    kept, notices = audit(images, names)
    assert kept == [0]
    assert notices[0].startswith("7 images left out: 1.png: it is empty")
    assert "and 2 more" in notices[0]
    with pytest.raises(UserError, match=r"7\.png: it is empty"):
        audit(images, names, broken="fail")
    with pytest.raises(UserError, match="1 image cannot be used"):
        audit([b""], ["x.png"])


def test_missing_file():
    assert inspect("no/such/file.png").problem == "there is no such file"


@pytest.mark.parametrize("settings", [{"broken": "ignore"}, {"max_pixels": 0}])
def test_bad_settings(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        audit([GOOD["png"]], ["a"], **settings)


def test_sniff_knows_its_own_formats():
    assert {sniff(content) for content in GOOD.values()} == set(FORMATS)


@pytest.mark.parametrize("bits", [12, 10, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_16_bits_that_are_hardly_used_are_mentioned(bits, colours):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 2**bits, (9, 9, colours)).astype("uint16")
    found = inspect(tf.io.encode_png(pixels).numpy())
    assert not found.problem
    assert ("nearly black" in (found.remark or "")) == (bits < 16)


@pytest.mark.parametrize("count", [10, pytest.param(5000, marks=pytest.mark.slow)])
def test_an_orientation_that_the_network_does_not_find_is_not_followed_here_either(count):
    import tensorflow as tf

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(IMAGE, "JPEG", exif=exif)
    content = turned[:2] + b"\xff\xee\x00\x04ab" * count + turned[2:]
    found = int(orientation.read(tf.constant(content)))
    assert found == (6 if count < EXIF_STEPS == orientation.MOST_STEPS else 1)
    assert (inspect(content).remark is not None) == (found > 1)
