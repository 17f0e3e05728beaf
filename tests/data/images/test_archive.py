"""Zips of images: what is unpacked, what is not, and what lies in the cache later."""

import shutil
import zipfile

import pytest
from image_bytes import png

from kerasft.data.images.archive import unpack
from kerasft.data.sources.image_folder import image_folder
from kerasft.errors import UserError

pytestmark = pytest.mark.usefixtures("cache")


def packed(path, names):
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names):
            file.writestr(name, png(number))
    return path


CLASSES = [f"{c}/{i}.png" for c in ("cats", "dogs") for i in range(6)]


def test_what_an_archive_does_not_hold_is_moved_out_of_the_cache(tmp_path, cache, capsys):
    path = packed(tmp_path / "x.zip", CLASSES)
    place = unpack(path)
    (place / "birds").mkdir()
    (place / "birds" / "1.png").write_bytes(png(90))
    (place / "cats" / "more.png").write_bytes(png(91))
    (place / "cats" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "else").mkdir()
    (place / "link").symlink_to(tmp_path / "else")
    shutil.move(place / "dogs" / "1.png", tmp_path / "else" / "1.png")
    (place / "dogs" / "1.png").symlink_to(tmp_path / "else" / "1.png")
    splits = image_folder(str(path), kind="single", seed=0)
    assert splits.labels.names == ("cats", "dogs")
    assert sum(len(part) for part in splits.parts.values()) == len(CLASSES)
    assert not (place / "dogs" / "1.png").is_symlink()
    said = capsys.readouterr().err
    assert "birds" in said and "cats/more.png" in said and "link" in said
    aside = next(place.parent.glob("*.extra-*"))
    assert (aside / "birds" / "1.png").read_bytes() == png(90)
    unpack(path)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([*CLASSES, "./cats/1.png"], "several files of one name: 'cats/1.png'"),
        ([*CLASSES, "cats//1.png"], "several files of one name: 'cats/1.png'"),
        ([*CLASSES, "x", "x/y.png"], "a file and a folder of one name: 'x'"),
        ([*CLASSES, f"cats/{'a' * 300}.png"], "more than 255 bytes"),
        ([*CLASSES, f"cats/{'é' * 130}.png"], "more than 255 bytes"),
        ([name.replace("/", "\\") for name in CLASSES], "backslashes"),
        (["inner.zip", "b.tar.gz"], "nothing but other archives: 'inner.zip', 'b.tar.gz'"),
        ([], "holds no files"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_has_words_of_its_own(tmp_path, cache, names, said):
    with pytest.raises(UserError) as caught:
        unpack(packed(tmp_path / "x.zip", names))
    assert said in str(caught.value) and "KERASFT_CACHE" not in str(caught.value)
    assert not list(cache.rglob("*.png"))


def test_a_colon_in_a_name_is_a_sign_like_others(tmp_path):
    path = packed(tmp_path / "x.zip", [name.replace("cats", "cats: small") for name in CLASSES])
    assert image_folder(str(path), kind="single", seed=0).labels.names == ("cats: small", "dogs")
