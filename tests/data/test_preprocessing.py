from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kerasft import testing
from kerasft.data import preprocessing as module
from kerasft.data.order import Order
from kerasft.data.pipeline import Batches, in_one_pass
from kerasft.data.preprocessing import identity, prepare, prepare_splits
from kerasft.errors import Unreadable, UserError
from kerasft.model import tiny
from kerasft.model.preprocess import ImagePreprocess
from kerasft.rows import Rows
from kerasft.system.cache import Cache
from kerasft.system.late_errors import noted, told

IMAGES = testing.tiny_splits("images", count=24, size=16)
TEXTS = testing.tiny_splits("text", count=24)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def bert():
    return tiny.text("bert", sequence_length=24).preprocess


@pytest.fixture
def counted(monkeypatch):
    """Count how often anything is decoded or tokenized."""
    made = []
    original = module._pieces

    def pieces(examples, *given):
        made.append(len(examples))
        return original(examples, *given)

    monkeypatch.setattr(module, "_pieces", pieces)
    return made


def same(kept, fresh) -> None:
    """Assert that two stores give the same batches."""
    assert len(kept) == len(fresh)
    for indices in ([0], [2, 1, 0], list(range(len(fresh)))):
        got, wanted = kept.gather(np.array(indices)), fresh.gather(np.array(indices))
        assert set(got) == set(wanted)
        for name, values in wanted.items():
            assert got[name].dtype == values.dtype
            np.testing.assert_array_equal(got[name], values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_kept_examples_are_those_of_the_preprocessing(cache, bert, kind):
    splits, ready = (TEXTS, bert) if kind == "texts" else (IMAGES, ImagePreprocess(16, 16))
    stores = prepare_splits(splits.parts, ready, cache)
    assert set(stores) == {"train", "validation", "test"}
    for name, part in splits.parts.items():
        same(stores[name], prepare(part, ready))
    assert [entry.kind for entry in cache.entries()] == [kind]
    assert len({store.key for store in stores.values()}) == 3


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_the_second_time_nothing_is_made(cache, bert, kind, counted):
    splits, ready = (TEXTS, bert) if kind == "texts" else (IMAGES, ImagePreprocess(16, 16))
    first = prepare_splits(splits.parts, ready, cache)
    again = prepare_splits(splits.parts, ready, Cache(cache.directory))
    assert len(counted) == 1
    same(again["train"], first["train"])
    assert again["train"].key == first["train"].key


@pytest.mark.slow
def test_another_split_of_the_same_data_finds_it(cache, counted):
    ready = ImagePreprocess(16, 16)
    prepare_splits(IMAGES.parts, ready, cache)
    swapped = {"train": IMAGES.validation, "validation": IMAGES.train, "test": IMAGES.test}
    stores = prepare_splits(swapped, ready, cache)
    assert len(counted) == 1
    same(stores["train"], prepare(IMAGES.validation, ready))


@pytest.mark.slow
def test_an_example_that_stands_twice_is_kept_once(cache, counted):
    part = IMAGES.train.take([0, 1, 1, 0, 2])
    part = dataclasses.replace(part, ids=tuple("abcde"))
    stores = prepare_splits({"train": part, "validation": part}, ImagePreprocess(16, 16), cache)
    assert counted == [3]
    same(stores["validation"], prepare(part, ImagePreprocess(16, 16)))


@pytest.mark.slow
@pytest.mark.parametrize("change", [
    {"height": 12}, {"resize": "pad"},
    pytest.param({"interpolation": "nearest"}, marks=pytest.mark.slow),
    pytest.param({"antialias": False}, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_changed_setting_makes_a_new_entry(cache, counted, change):
    plain = {"height": 16, "width": 16}
    prepare_splits(IMAGES.parts, ImagePreprocess(**plain), cache)
    changed = ImagePreprocess(**{**plain, **change})
    stores = prepare_splits(IMAGES.parts, changed, cache)
    assert len(counted) == 2
    same(stores["train"], prepare(IMAGES.train, changed))


@pytest.mark.slow
def test_a_changed_file_makes_a_new_entry(cache, tmp_path, counted):
    paths = []
    for i, data in enumerate(IMAGES.train.inputs):
        (tmp_path / f"{i}.png").write_bytes(data)
        paths.append(str(tmp_path / f"{i}.png"))
    part = dataclasses.replace(IMAGES.train, inputs=paths)
    ready = ImagePreprocess(16, 16)
    before = prepare_splits({"train": part}, ready, cache)["train"].gather(np.array([0]))
    (tmp_path / "0.png").write_bytes(IMAGES.test.inputs[0])
    after = prepare_splits({"train": part}, ready, cache)["train"]
    assert len(counted) == 2
    same(after, prepare(part, ready))
    assert not np.array_equal(after.gather(np.array([0]))["images"], before["images"])


@pytest.mark.slow
def test_a_changed_text_tokenizer_or_length_makes_a_new_entry(cache, bert, counted):
    shorter = tiny.text("bert", sequence_length=16).preprocess
    other = tiny.text("roberta", sequence_length=24).preprocess
    texts = [*TEXTS.train.inputs[:-1], TEXTS.train.inputs[-1] + "!"]
    changed = dataclasses.replace(TEXTS.train, inputs=texts)
    for part, ready in (
        (TEXTS.train, bert), (TEXTS.train, shorter), (TEXTS.train, other), (changed, bert)
    ):  # fmt: skip
        same(prepare_splits({"train": part}, ready, cache)["train"], prepare(part, ready))
    # Each time for the cache, and once more to compare.
    assert len(counted) == 8


def test_the_identity_of_a_preprocessing_is_that_of_its_twin(bert):
    assert identity(bert) == identity(tiny.text("bert", sequence_length=24).preprocess)
    assert identity(bert) != identity(bert.paired(True))


@pytest.mark.slow
def test_a_broken_image_is_named_and_nothing_kept(cache):
    part = dataclasses.replace(IMAGES.train, inputs=[*IMAGES.train.inputs[:-1], b"broken"])
    with pytest.raises(UserError, match="could not be decoded"):
        prepare_splits({"train": part}, ImagePreprocess(16, 16), cache)
    assert cache.entries() == []


@pytest.mark.slow
def test_without_room_the_run_goes_on_in_memory_and_says_so(tmp_path, capsys):
    ready = ImagePreprocess(16, 16)
    small = Cache(tmp_path / "small", limit_gb=1e-9)
    same(prepare_splits(IMAGES.parts, ready, small)["train"], prepare(IMAGES.train, ready))
    assert small.entries() == []
    said = capsys.readouterr().err
    assert "prepared images are not kept for the next run: " in said
    assert "small' may take 0.0 GB, and they need 0.0." in said
    (tmp_path / "file").write_text("")
    nowhere = Cache(tmp_path / "file" / "cache")
    same(prepare_splits(IMAGES.parts, ready, nowhere)["train"], prepare(IMAGES.train, ready))
    assert "cache' cannot be used: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bytes", "files"])
def test_too_many_images_for_memory_and_disk_are_decoded_when_they_are_needed(
    tmp_path, monkeypatch, capsys, kind
):
    ready, parts = ImagePreprocess(16, 16, resize="pad"), dict(IMAGES.parts)
    if kind == "files":
        parts = {name: in_files(part, tmp_path / name) for name, part in parts.items()}
    kept = prepare_splits(parts, ready, Cache(tmp_path / "whole"))
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1000)
    late = prepare_splits(parts, ready, Cache(tmp_path / "small", limit_gb=1e-9))
    said = capsys.readouterr().err
    assert "may take 0.0 GB" in said and " cache.limit_gb higher, or cache.directory to" in said
    for name, wanted in kept.items():
        same(late[name], wanted)
        assert (late[name].key, late[name].specs()) == (wanted.key, wanted.specs())
        np.testing.assert_array_equal(
            late[name].inputs.row(1)["images"], wanted.inputs.row(1)["images"])
    orders = [Order(len(kept["train"]), 4, seed=3) for _ in range(2)]
    targets = Rows.of({"labels": np.arange(len(kept["train"]))})
    one, other = (
        Batches(store["train"], targets, order=order, batch=lambda x, y: (y["labels"], None))
        for store, order in zip((kept, late), orders, strict=True)
    )
    # From the middle of an epoch on, as a run that goes on.
    pairs = zip(one.from_step(2).take(5), other.from_step(2).take(5), strict=True)
    for (x, y), (again, label) in pairs:
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, label)


def in_files(part, folder):
    """Return the images of a split as files."""
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(len(part))]
    for path, image in zip(paths, part.inputs, strict=True):
        path.write_bytes(image)
    return dataclasses.replace(part, inputs=list(map(str, paths)))


def test_files_that_change_or_break_while_they_are_decoded_late_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1000)
    part = in_files(IMAGES.train, tmp_path / "images")
    small = Cache(tmp_path / "small", limit_gb=1e-9)
    made = prepare_splits({"train": part}, ImagePreprocess(16, 16), small)["train"]
    made.gather(np.arange(4))
    whole = Path(part.inputs[2]).read_bytes()
    Path(part.inputs[2]).write_bytes(Path(part.inputs[3]).read_bytes())
    with pytest.raises(UserError, match=rf"{part.ids[2]}' was changed while the run used it"):
        made.gather(np.arange(4))
    Path(part.inputs[2]).write_bytes(whole[:60])
    again = prepare_splits({"train": part}, ImagePreprocess(16, 16), small)["train"]
    with pytest.raises(UserError, match=rf"{part.ids[2]}' could not be decoded: .*Remove it or"):
        again.gather(np.arange(4))
    # TensorFlow, which asks for them in a run, hands on no more than a text.
    one = Batches(again, Rows.of({"labels": np.arange(len(again))}),
                  order=Order(len(again), len(again), seed=0),
                  batch=lambda x, y: (y["labels"], None))  # fmt: skip
    for ask in (lambda: one.from_step(0), lambda: in_one_pass(again, len(again))[0]):
        with pytest.raises(Unreadable, match=rf"^The image '{part.ids[2]}' could not"), told():
            next(iter(ask()))
    Path(part.inputs[2]).unlink()
    with pytest.raises(Unreadable, match=r"cannot be read any more: No such file.* Put it back"):
        again.gather(np.arange(4))


def test_errors_that_are_no_users_stay_what_they_are():
    import tensorflow as tf

    with pytest.raises(Unreadable, match=r"^one$"), told(), noted():
        raise Unreadable("one")
    with pytest.raises(tf.errors.InvalidArgumentError, match="another"), told():
        raise tf.errors.InvalidArgumentError(None, None, "another")


@pytest.mark.slow
def test_images_of_one_process_are_in_a_file_of_its_own(monkeypatch):
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1000)
    ready = ImagePreprocess(16, 16)
    # Alone in this process, in a file of its own.
    whole = prepare(IMAGES.train, ready)
    np.testing.assert_array_equal(
        whole.gather(np.arange(len(whole)))["images"], ready(IMAGES.train.inputs)
    )


def test_what_is_too_large_for_the_folder_of_temporary_files_names_it(monkeypatch, capsys):
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1000)
    monkeypatch.setattr(module.Cache, "free_space", lambda cache: 10)
    prepare(IMAGES.train, ImagePreprocess(16, 16))
    said = capsys.readouterr().err
    assert "lower, or TMPDIR to a folder on a larger disk" in said and "limit_gb" not in said


@pytest.mark.slow
def test_splits_that_are_wanted_come_from_what_is_there_of_all(cache, counted):
    ready = ImagePreprocess(16, 16)
    alone = prepare_splits(IMAGES.parts, ready, cache, ["test"])
    assert set(alone) == {"test"} and sum(counted) == len(set(IMAGES.test.inputs))
    counted.clear()
    prepare_splits(IMAGES.parts, ready, cache)
    assert counted
    counted.clear()
    again = prepare_splits(IMAGES.parts, ready, cache, ["validation", "test"])
    assert not counted and list(again) == ["validation", "test"]
    same(again["test"], alone["test"])


def test_a_image_that_changes_while_it_is_read_is_told_and_nothing_is_kept(
    tmp_path, cache, monkeypatch
):
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [str(folder / f"{i}.png") for i in range(len(IMAGES.train))]
    for path, image in zip(paths, IMAGES.train.inputs, strict=True):
        Path(path).write_bytes(image)
    part = dataclasses.replace(IMAGES.train, inputs=paths)
    plain = module._kept

    def meanwhile(*given, **named):
        Path(paths[3]).write_bytes(IMAGES.train.inputs[4])
        return plain(*given, **named)

    monkeypatch.setattr(module, "_kept", meanwhile)
    with pytest.raises(UserError, match="'train 3' was changed while the run read it"):
        prepare_splits({"train": part}, ImagePreprocess(16, 16), cache)
    assert cache.entries() == []
