"""TFRecord files of tf.Example, read record by record where and when one is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.collection import to_splits
from kerasft.data.current_read import begins
from kerasft.data.gathered import Gathered
from kerasft.data.images.audit import MAX_PIXELS, audit, check_policy
from kerasft.data.kept_splits import read_from
from kerasft.data.looks import LABELS, Look
from kerasft.data.paths import (
    find_files,
    find_path,
    read_label_names,
    require_apart,
    require_written,
)
from kerasft.data.record_files import Spot, scan
from kerasft.data.splits import check_ratios
from kerasft.data.tables.short_floats import shortest
from kerasft.errors import UserError, nearest, some
from kerasft.spec import Modality, Splits
from kerasft.system.console import listing

_SUFFIXES = (".tfrecord", ".tfrecords", ".tfrec", ".record", ".records")


def look(settings: Mapping[str, Any]) -> Look:
    """Look whether the files are there.

    Raises:
        UserError: If they are not.
    """
    checked = []
    for name in ("path", "validation", "test"):
        if isinstance(value := settings.get(name), str):
            files = _files(value, f"data.{name}")
            are = "is" if len(files) == 1 else "are"
            checked.append(f"data.{name}: {some(len(files), 'file')} {are} there")
    modality: Modality = "images" if settings.get("image") is not None else "text"
    return Look(modality, tuple(checked), ("the examples and their labels",), LABELS)


def _texts_from(
    path: str, *, text: object = None, validation: float | str = 0.15, test: float | str = 0.15,
    label_names: object = None, **_others: object,
) -> list[Path] | None:
    """Return the files that are read; `None` where these are images, which stay in them."""
    if text is None:
        return None
    found = _files(path, "data.path")
    beside = found[0].parent
    for key, value in (("data.validation", validation), ("data.test", test)):
        found += _files(value, key) if isinstance(value, str) else []
    if isinstance(label_names, str):
        found.append(find_path(label_names, "data.label_names", beside=beside))
    return found


@read_from(_texts_from)
def tfrecord(
    path: str,
    *,
    kind: str,
    seed: int,
    label: str,
    image: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label_names: list[str] | str | None = None,
    label_delimiter: str | None = None,
    validation: float | str = 0.15,
    test: float | str = 0.15,
    split: str = "stratified",
    group: str | None = None,
    limit: int | None = None,
    broken: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Splits:
    """Read tf.Example records; images stay in their files until they are asked for.

    Args:
        path: A file, a pattern such as `"shards/train-*"`, or a folder of `.tfrecord` files.
        kind: `"single"`, `"multi"`, `"number"` or `"numbers"`.
        seed: Another seed, another split.
        label: The feature that holds the label, or for kind `"multi"` all labels.
        image: The feature of encoded images; either this or `text`.
        text: The feature of UTF-8 texts; either this or `image`.
        text_pair: The feature of second texts, where an example is a pair.
        label_names: The class names in order, as a list or as a file with one a line. Labels
            may then be names, or numbers from 0.
        label_delimiter: What parts several labels within one value, if anything does.
        validation: The part of the records to validate on, or the path of other files.
        test: The part of the records for the test, 0 for none, or the path of other files.
        split: `"stratified"` or `"hash"`, where a split is made by ratio.
        group: The feature that names the group of a record; no group stands in two splits.
        limit: Train on so many records only, for a quick try.
        broken: `"skip"` leaves out images that cannot be decoded, `"fail"` stops.
        max_pixels: The most pixels (width times height) that an image may have.

    Returns:
        `Splits` of encoded images, read late, or of texts.

    Raises:
        UserError: If a file is broken or cut short, or if a record lacks a feature.

    Example:

    >>> tfrecord("train-*", image="image/encoded", label="image/class/label",
    ...          kind="single", seed=0)  # doctest: +SKIP
    """
    check_policy(broken, max_pixels)
    if (image is None) == (text is None):
        raise UserError(
            "Exactly one of data.image and data.text must name a feature: what the network reads "
            f"is images or text. Received: data.image={image}, data.text={text}."
        )
    if text_pair is not None and text is None:
        raise UserError(f"data.text_pair needs data.text. Received: data.text_pair={text_pair}.")
    files = {"train": _files(path, "data.path")}
    ratios = {"validation": 0.0, "test": 0.0}
    for name, value in (("validation", validation), ("test", test)):
        if isinstance(value, str):
            files[name] = _files(value, f"data.{name}")
        else:
            ratios[name] = value
    check_ratios(ratios["validation"], ratios["test"], split, list(files))
    require_apart(files, "Narrow the patterns, such as data.path=DIR/train-*.")
    for name, paths in files.items():
        for file in paths:
            require_written(str(file), "data.path" if name == "train" else f"data.{name}")
    names = read_label_names(label_names, files["train"][0].parent)
    content: list[Any] = [image] if image else [text, text_pair] if text_pair else [text]
    with Gathered(
        "images" if image else "text", kind=kind, pair=text_pair is not None,
        grouped=group is not None,
    ) as gathered:
        for name, paths in files.items():
            for file in paths:
                prefix = f"{name}/{file.name}" if len(files) > 1 else file.name
                for one in _read(file, prefix, content, label, group, is_image=bool(image)):
                    gathered.add(name, prefix, one.number, one.content, one.value, one.group)
    found = gathered.made()
    if not len(found):
        raise UserError(f"data.path: {path} holds no records.")
    if image:
        found.inputs = Records(found.inputs, image)
        kept, said = audit(found.inputs, found.ids, broken=broken, max_pixels=max_pixels)
        found = found.keep(kept)
        found.notices += said
    return to_splits(
        found, kind=kind, seed=seed, split=split, label_names=names, limit=limit,
        label_delimiter=label_delimiter, label_key=f"data.label={label}", **ratios,
        source={
            "source": "tfrecord",
            "files": {name: [str(file) for file in paths] for name, paths in files.items()},
            "features": {
                "image": image, "text": text, "text_pair": text_pair, "label": label,
                "group": group,
            },
        },
    )  # fmt: skip


class Records(Sequence):
    """The images of records, each read from its file when it is asked for.

    Args:
        spots: Where the records stand.
        feature: The feature that holds the image.
    """

    def __init__(self, spots: Sequence[Spot], feature: str):
        self.spots = list(spots)
        self.feature = feature

    def __len__(self) -> int:
        return len(self.spots)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Records(self.spots[index], self.feature)
        spot = self.spots[index]
        begins(spot.path)
        with open(spot.path, "rb") as file:
            file.seek(spot.offset)
            content = file.read(spot.length)
        return _features(content)[self.feature].bytes_list.value[0]

    def choose(self, indices: Sequence[int] | np.ndarray) -> Records:
        """Return the records at `indices`, in that order, still unread."""
        return Records([self.spots[int(i)] for i in indices], self.feature)


def _files(path: str, key: str) -> list[Path]:
    if found := find_files(path, key):
        return found
    given = find_path(path, key)
    if given.is_file():
        return [given]
    found = sorted(
        file for file in given.iterdir()
        if file.is_file() and any(suffix in file.name for suffix in _SUFFIXES)
    )  # fmt: skip
    if not found:
        raise UserError(
            f"{key}: {given} holds no files with one of the suffixes {', '.join(_SUFFIXES)}. Name "
            f"them by a pattern, such as {key}={given}/*."
        )
    return found


def _features(content: bytes) -> Any:
    import tensorflow as tf

    return tf.train.Example.FromString(content).features.feature


@dataclass(frozen=True)
class Record:
    """What a record holds of an example: a text or a pair of texts, or where its image stands."""

    number: int
    content: Any
    value: Any
    group: str | None


def _read(
    file: Path, prefix: str, content: Sequence[str], label: str, group: str | None, *,
    is_image: bool,
) -> Iterator[Record]:  # fmt: skip
    from google.protobuf.message import DecodeError

    keys = ["data.image"] if is_image else ["data.text", "data.text_pair"][: len(content)]
    for number, (spot, record) in enumerate(scan(file)):
        where = f"{prefix}:{number}"
        try:
            features = _features(record)
        except DecodeError as error:
            raise UserError(
                f"{file}, record {number:,} is no tf.Example. Only records of tf.Example can be "
                "read."
            ) from error
        cells = [
            _values(features, name, key, where) for name, key in zip(content, keys, strict=True)
        ]
        for cell, name, key in zip(cells, content, keys, strict=True):
            if len(cell) != 1 or not isinstance(cell[0], bytes):
                raise UserError(
                    f"{key}: the feature {name!r} must hold one {'image' if is_image else 'text'}"
                    f" as bytes. Received: {where} with {some(len(cell), 'value')}."
                )
        found: Any = spot
        if not is_image:
            pairs = zip(cells, content, strict=True)
            texts = tuple(_decode(cell[0], name, where) for cell, name in pairs)
            found = texts if len(texts) > 1 else texts[0]
        values = _values(features, label, "data.label", where)
        named = None if group is None else _values(features, group, "data.group", where)
        yield Record(
            number, found, values[0] if len(values) == 1 else values or None,
            None if named is None else str(named[0]) if named else "",
        )  # fmt: skip


def _values(features: Any, name: str, key: str, where: str) -> list[Any]:
    if name not in features:
        raise UserError(
            f"{key}: {where} has no feature {name!r}.{nearest(name, features)} Its features: "
            f"{listing(sorted(features), 30)}."
        )
    feature = features[name]
    which = feature.WhichOneof("kind")
    values = list(getattr(feature, which).value) if which else []
    return shortest(values) if which == "float_list" else values


def _decode(value: bytes, name: str, where: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: the text in {name!r} is not UTF-8 (byte {error.start:,}). Write the "
            "records anew with UTF-8 texts."
        ) from error
