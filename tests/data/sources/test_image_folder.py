import errno
import os
import shutil
import stat
import zipfile

import numpy as np
import pytest
from image_bytes import png

from kerasft.data.images import archive
from kerasft.data.images.archive import unpack
from kerasft.data.manifest import read_manifest, write_manifest
from kerasft.data.sources.image_folder import image_folder
from kerasft.errors import UserError

pytestmark = pytest.mark.usefixtures("cache")


def fill(root, **counts):
    """Make class folders; `train__cats=3` makes three images in train/cats."""
    for folder, count in counts.items():
        place = root / folder.replace("__", "/")
        place.mkdir(parents=True)
        for i in range(count):
            (place / f"{i}.png").write_bytes(png(abs(hash((folder, i))) % 2**31))
    return root


def ask(path, **settings):
    return image_folder(str(path), **{"kind": "single", "seed": 0, **settings})


def sizes(splits):
    return {name: len(part) for name, part in splits.parts.items()}


def test_class_folders(tmp_path):
    splits = ask(fill(tmp_path, cats=20, dogs=10))
    assert sizes(splits) == {"train": 20, "validation": 5, "test": 5}
    assert splits.labels.names == ("cats", "dogs")
    for part in splits.parts.values():
        for name, path, label in zip(part.ids, part.inputs, part.labels, strict=True):
            assert path == str(tmp_path / name)
            assert name.startswith(splits.labels.names[label] + "/")
    everything = [i for part in splits.parts.values() for i in part.ids]
    assert len(set(everything)) == 30
    assert not splits.notices


def test_no_test(tmp_path):
    assert sizes(ask(fill(tmp_path, a=10, b=10), test=0)) == {"train": 16, "validation": 4}


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev", "Val"])
def test_split_folders(tmp_path, word):
    fill(tmp_path, train__a=10, train__b=10, **{f"{word}__a": 3, f"{word}__b": 4})
    splits = ask(tmp_path, test=0)
    assert sizes(splits) == {"train": 20, "validation": 7}
    assert all(name.startswith(f"{word}/") for name in splits.validation.ids)
    splits = ask(tmp_path, test=0.2)
    assert sizes(splits) == {"train": 16, "validation": 7, "test": 4}
    assert all(name.startswith("train/") for name in splits.test.ids)


def test_train_and_test_only(tmp_path):
    fill(tmp_path, train__a=10, train__b=10, test__a=2, test__b=2)
    assert sizes(ask(tmp_path)) == {"train": 16, "validation": 4, "test": 4}


def test_trains_beside_cars_are_a_class(tmp_path):
    assert ask(fill(tmp_path, train=10, cars=10)).labels.names == ("cars", "train")


def test_one_folder_is_entered(tmp_path):
    splits = ask(fill(tmp_path, outer__inner__a=10, outer__inner__b=10))
    assert splits.labels.names == ("a", "b")
    assert splits.train.ids[0].startswith("a/")


def test_inner_folders_litter_and_links(tmp_path):
    fill(tmp_path, a=5, b=5, a__more__deep=5)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".git" / "x").mkdir(parents=True)
    (tmp_path / "b" / "notes.txt").write_text("x")
    (tmp_path / "b" / "bare").write_bytes(png(77))  # an image without a suffix
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    (tmp_path / "loose.png").write_bytes(png(5))
    (tmp_path / "empty").mkdir()
    splits = ask(tmp_path)
    assert sum(sizes(splits).values()) == 16
    said = " ".join(splits.notices)
    assert "1 image in" in said
    assert ".txt" in said
    assert "The folder empty/ holds no images" in said


def test_groups_stay_together(tmp_path):
    for label in "ab":
        for patient in range(8):
            for i in range(3):
                place = tmp_path / label / f"p{patient}_{i}.png"
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(png(ord(label) * 100 + patient * 10 + i))
    splits = ask(tmp_path, group=r"(p\d+)_")
    seen = {n: {i.split("/")[1][:2] for i in part.ids} for n, part in splits.parts.items()}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    with pytest.raises(UserError, match="finds no group"):
        ask(tmp_path, group="x")
    with pytest.raises(UserError, match="regular expression"):
        ask(tmp_path, group="(")


def test_copies_share_a_split_and_are_told_where_the_data_splits(tmp_path):
    for i in range(20):
        for copy in range(2):
            for label in "ab":
                place = tmp_path / "one" / label / f"{i}_{copy}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(png(i + 1000 * ord(label)))
    splits = ask(tmp_path / "one")
    assert not splits.notices
    fill(tmp_path, two__train__a=10, two__train__b=10, two__test__a=1, two__test__b=1)
    copied = (tmp_path / "two/train/a/0.png").read_bytes()
    (tmp_path / "two/test/a/0.png").write_bytes(copied)
    notices = ask(tmp_path / "two").notices
    assert any("1 image of test is an exact copy" in notice for notice in notices)
    (tmp_path / "two/test/b/0.png").write_bytes(copied)
    notices = ask(tmp_path / "two").notices
    assert any(
        "under different labels: train/a/0.png (a) and test/b/0.png (b)" in notice
        for notice in notices
    )
    assert any("test/a/0.png (= train/a/0.png)" in notice for notice in notices)


def test_a_class_with_one_image_trains_and_is_told(tmp_path):
    splits = ask(fill(tmp_path, a=20, b=20, c=1))
    assert [n for n in splits.train.ids if n.startswith("c/")] == ["c/0.png"]
    assert any("test has no example of 1 label" in notice for notice in splits.notices)


def test_broken_images(tmp_path):
    fill(tmp_path, a=10, b=10)
    (tmp_path / "a" / "bad.png").write_bytes(png(1)[:60])
    (tmp_path / "b" / "zero.jpg").write_bytes(b"")
    (tmp_path / "b" / "scan.tiff").write_bytes(b"II*\0xxxxxxxxxxxxxxx")
    splits = ask(tmp_path)
    assert sum(sizes(splits).values()) == 20
    assert any(n.startswith("3 images left out: a/bad.png") for n in splits.notices)
    with pytest.raises(UserError, match=r"b/zero\.jpg: it is empty"):
        ask(tmp_path, broken="fail")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "zero.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="class 'c'"):
        ask(tmp_path)


@pytest.mark.parametrize(
    ("tree", "settings", "said"),
    [
        ({}, {}, "an empty folder"),
        ({"a": 5}, {}, "2 classes: the only one is 'a'"),
        ({"a": 0, "b": 0}, {}, "no images"),
        ({"Cat": 5, "cat": 5}, {}, "'Cat' and 'cat'"),
        ({"train": 3}, {}, "no train folder with one folder a class"),
        ({"train": 3, "test": 3}, {}, "no train folder with one folder a class"),
        ({"val__a": 3, "test__a": 3}, {}, "no train folder with one folder a class"),
        ({"train__a": 3, "train__b": 3, "val__a": 3, "dev__a": 3}, {}, "several folders"),
        ({"train__a": 9, "train__b": 9, "test__c": 3}, {}, "'c' is in test only"),
        ({"train__a": 9, "train__b": 9, "test__A": 3}, {}, "'A' and 'a'"),
        ({"a": 5, "b": 5}, {"validation": 0.5, "test": 0.5}, "below 1"),
        ({"a": 5, "b": 5}, {"validation": 0}, "data.validation must be above 0"),
        ({"a": 1, "b": 1}, {}, "none for: validation, test"),
        ({"a": 5, "b": 5}, {"split": "random"}, "data.split"),
        ({"a": 5, "b": 5}, {"broken": "ignore"}, "data.broken"),
        ({"a": 5, "b": 5}, {"label_names": ["a", "c"]}, "'b' (first at b/0.png)"),
        ({"a": 5, "b": 5}, {"kind": "number"}, "task=classification"),
    ],
)
def test_bad_folders(tmp_path, tree, settings, said):
    fill(tmp_path, **tree)
    with pytest.raises(UserError) as caught:
        ask(tmp_path, **settings)
    assert said in " ".join(caught.value.problems)


def test_bad_paths(tmp_path):
    fill(tmp_path, photos__a=2)
    with pytest.raises(UserError, match="Did you mean 'photos'"):
        ask(tmp_path / "photo")
    with pytest.raises(UserError, match="data=table"):
        ask(tmp_path / "photos" / "a" / "0.png")
    with pytest.raises(UserError, match="without a folder"):
        ask(tmp_path / "photos" / "a")
    with pytest.raises(UserError, match=r"data\.path must be the path"):
        image_folder("", kind="single", seed=0)


def pack(path, members, mode=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if mode:
                info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def test_zip(tmp_path, cache):
    members = [(f"top/{c}/{i}.png", png(i + 50 * ord(c))) for c in "ab" for i in range(10)]
    path = pack(tmp_path / "x.zip", [*members, ("__MACOSX/top/a/._0.png", b"x")])
    splits = ask(path)
    assert sum(sizes(splits).values()) == 20
    (folder,) = (one for one in (cache / "unpacked").iterdir() if one.is_dir())
    before = folder.stat().st_mtime_ns
    assert ask(path).train.inputs == splits.train.inputs
    assert folder.stat().st_mtime_ns == before


def test_what_is_unpacked_is_found_in_a_read_only_cache_too(tmp_path, cache, monkeypatch):
    path = pack(tmp_path / "x.zip", [("a/1.png", png(1)), ("b/1.png", png(2))])
    folder = unpack(path)

    def refused(place):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(archive, "hold", refused)
    assert unpack(path) == folder
    (folder / "a" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot be unpacked .*Read-only file system"):
        unpack(path)


def test_what_a_killed_process_had_unpacked_is_cleared(tmp_path, cache):
    path = pack(tmp_path / "x[1].zip", [("a/1.png", png(1)), ("b/1.png", png(2))])
    folder = unpack(path)
    left = folder.with_name(f".{folder.name}.abc.part")
    folder.rename(left)
    assert unpack(path) == folder
    assert not left.exists() and (folder / "b" / "1.png").is_file()


@pytest.mark.parametrize("harm", ["flipped", "cut", "missing"])
def test_what_was_damaged_since_it_was_unpacked_is_unpacked_again(tmp_path, cache, harm, capsys):
    members = [(f"{c}/{i}.png", png(i + 50 * ord(c))) for c in "ab" for i in range(10)]
    path = pack(tmp_path / "x.zip", members)
    folder = unpack(path)
    assert capsys.readouterr().err == ""
    file = folder / "a" / "3.png"
    whole = file.read_bytes()
    if harm == "missing":
        shutil.rmtree(folder / "a")
    else:
        file.write_bytes(whole[:-1] if harm == "cut" else whole[:50] + b"?" + whole[51:])
    assert unpack(path) == folder
    assert {name: (folder / name).read_bytes() for name, _ in members} == dict(members)
    said = capsys.readouterr().err
    count = "10 files" if harm == "missing" else "1 file"
    assert f"warning: {count} unpacked into {str(folder)!r} missing or damaged, unpacked" in said
    assert said.count("\n") == 1 and "a/3.png" in said
    unpack(path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "C:/x.png", "a\\..\\x.png"]
)
def test_zip_stays_inside(tmp_path, cache, name):
    with pytest.raises(UserError, match="lead out"):
        unpack(pack(tmp_path / "x.zip", [("aaaaaaaa/1.png", b"1"), (name, b"x")]))
    assert not (cache / "unpacked").exists()


def test_zip_bombs_links_and_rubbish(tmp_path, cache, monkeypatch):
    with pytest.raises(UserError, match="at most 3 files"):
        unpack(pack(tmp_path / "x.zip", [(f"a/{i}", b"") for i in range(4)]), most_files=3)
    with pytest.raises(UserError, match="of 9 bytes"):
        unpack(pack(tmp_path / "x.zip", [("a/1", b"0123456789")]), most_bytes=9)
    monkeypatch.setattr(archive, "SMALL_BYTES", 2**20)
    with pytest.raises(UserError, match="times their packed size"):
        unpack(pack(tmp_path / "x.zip", [("a/1", bytes(2**23))]))
    with pytest.raises(UserError, match="links"):
        unpack(pack(tmp_path / "x.zip", [("a/1", b"/etc")], mode=stat.S_IFLNK | 0o777))
    (tmp_path / "y.zip").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match="broken, or no zip"):
        unpack(tmp_path / "y.zip")
    path = pack(tmp_path / "z.zip", [("a/1.png", png(1) * 50)])
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"z\.zip"):
        unpack(path)
    assert not [one for one in (cache / "unpacked").iterdir() if one.is_dir()]
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="KERASFT_CACHE"):
        unpack(pack(tmp_path / "x.zip", [("a/1.png", png(1))]))


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="needs a user who is refused")  # fmt: skip
def test_folder_that_may_not_be_read(tmp_path):
    fill(tmp_path, a=2, b=2)
    (tmp_path / "a").chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        ask(tmp_path)


def test_hymenoptera(real_data):
    splits = ask(real_data / "hymenoptera", test=0)
    assert sizes(splits) == {"train": 245, "validation": 153}
    assert "train/ants/imageNotFound.gif" in splits.train.ids
    assert splits.labels.names == ("ants", "bees")


def test_trashnet(real_data):
    splits = ask(real_data / "trashnet" / "trashnet.zip")
    assert len(splits.labels.names) == 6
    assert sum(sizes(splits).values()) == 1262
    shares = [np.bincount(p.labels, minlength=6) / len(p) for p in splits.parts.values()]
    assert np.abs(shares[0] - shares[2]).max() < 0.02


def test_links_to_outside_are_named_and_those_that_lead_up_are_not_followed(tmp_path):
    root = fill(tmp_path / "data", cats=6, dogs=6)
    other = fill(tmp_path / "other", birds=3)
    ask = lambda: image_folder(str(root), kind="single", seed=0)  # noqa: E731
    for name, place in (("up", ".."), ("root", "/"), ("here", str(root)), ("proc", "/proc")):
        (root / "cats" / name).symlink_to(place)
    (root / "cats" / "inside.png").symlink_to(root / "cats" / "1.png")
    assert not [notice for notice in ask().notices if "link" in notice]
    assert sum(len(part) for part in ask().parts.values()) == 13
    (root / "dogs" / "more").symlink_to(other / "birds")
    (root / "dogs" / "one.png").symlink_to(other / "birds" / "1.png")
    said = next(notice for notice in ask().notices if "-> " in notice)
    assert f"dogs/more -> {other / 'birds'}" in said and "dogs/one.png ->" in said
    assert "2 links" in said and "/birds/0.png" not in said
    assert sum(len(part) for part in ask().parts.values()) == 17


def test_file_names_that_are_no_text_are_spelled_out(tmp_path):
    root = fill(tmp_path / "data", cats=6, dogs=6)
    (root / "cats" / os.fsdecode(b"caf\xe9.png")).write_bytes(png(50))
    (root / "cats" / os.fsdecode(b"notes.\xe9")).write_bytes(b"x")
    splits = image_folder(str(root), kind="single", seed=0)
    names = [i for part in splits.parts.values() for i in part.ids]
    assert "cats/caf\\xe9.png" in names
    rows = read_manifest(write_manifest(splits, tmp_path / "data.json"))["splits"]
    assert "cats/caf\\xe9.png" in [row[0] for part in rows.values() for row in part]
    assert ".\\xe9" in " ".join(splits.notices)


@pytest.mark.parametrize("name", [b"b\xff", b"a\nb", "a\u2028b".encode()])
def test_folders_whose_names_cannot_be_written_are_to_be_renamed(tmp_path, name):
    root = fill(tmp_path / "data", cats=6, dogs=6)
    (root / os.fsdecode(name)).mkdir()
    with pytest.raises(UserError, match="Rename them"):
        image_folder(str(root), kind="single", seed=0)


def test_a_path_that_is_no_text_is_refused(tmp_path):
    root = fill(tmp_path / os.fsdecode(b"d\xff"), cats=6, dogs=6)
    with pytest.raises(UserError, match=r"data.path: .*no UTF-8.*d\\\\xff"):
        image_folder(str(root), kind="single", seed=0)


def test_a_group_that_is_no_expression_is_refused(tmp_path):
    with pytest.raises(UserError, match="regular expression"):
        image_folder(str(fill(tmp_path, cats=6, dogs=6)), kind="single", seed=0, group=1)
