"""What a source has read, kept in the cache: the next run, or a restart, reads nothing again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kerasft.data.fingerprint import fingerprints
from kerasft.data.images.held import held_in
from kerasft.data.late_columns import LateIds
from kerasft.data.late_texts import LateTexts, read_texts, write_texts
from kerasft.data.spool import SCRATCH, TEXTS, spooled_in
from kerasft.data.store import smallest
from kerasft.errors import UserError
from kerasft.rows import as_table, of_table
from kerasft.spec import Copy, Examples, Labels, Splits
from kerasft.system.cache import Cache, CacheError, temporary
from kerasft.system.files import read_json, write_json

Source = TypeVar("Source", bound=Callable[..., Any])

KIND = "sources"
# Smaller sources are read faster than it is worth to keep them.
FEWEST = 20_000
# Files of fewer bytes are read into memory first.
SMALL = 1 << 22


def read_from(files: Callable[..., Sequence[Path] | None]) -> Callable[[Source], Source]:
    """Mark a source of texts with the files that it reads, so that what it read can be kept.

    Args:
        files: Takes what the source takes, by name. Returns all files that it will read, or `None`
            where what it reads cannot be kept.

    Example:
        >>> @read_from(lambda path, **others: [Path(path)])
        ... def mine(path, *, kind, seed): ...
        >>> vars(mine)["reads"]("a.csv")
        [PosixPath('a.csv')]
    """

    def mark(source: Source) -> Source:
        vars(source)["reads"] = files
        return source

    return mark


def read(
    source: Callable[..., Splits], target: str, settings: Mapping[str, Any], cache: Cache,
    build: Callable[[], Splits],
) -> Splits:
    """Return what a source reads, from the cache where the same files were read before.

    Args:
        source: The function behind the data.
        target: Its name.
        settings: All that it is called with, as plain values.
        cache: Where it is kept.
        build: Calls it.
    """
    def built() -> Splits:
        with held_in(cache.directory):
            return build()

    before = _key(source, target, settings)
    if before is None:
        return built()
    if cache.has(KIND, before):
        with suppress(CacheError):
            return cache.get(KIND, before, write=_gone, read=read_splits, about="")
    size = sum(size for _, size, *_ in before["files"])
    if size < SMALL:
        return _read_small(built, before, partial(_key, source, target, settings), cache)
    count = 0

    def write(folder: Path) -> None:
        nonlocal count
        with spooled_in(folder):
            splits = built()
        # Images stay in their files. And somebody may write to the files right now.
        if splits.train.modality != "text" or _key(source, target, settings) != before:
            raise _NotKept(splits)
        write_splits(folder, splits)
        count = sum(map(len, splits.parts.values()))

    try:
        # What was prepared is worth more than what was read.
        place = temporary() if 2 * size > cache.free_space() else cache
        return place.get(
            KIND, before, write=write, read=read_splits, about=lambda: f"{count:,} texts as read"
        )
    except _NotKept as one:
        return one.splits
    except CacheError:
        return built()


class _NotKept(Exception):
    """What was read, but is not to be found again."""

    def __init__(self, splits: Splits) -> None:
        super().__init__()
        self.splits = splits


def _read_small(
    build: Callable[[], Splits], before: dict[str, Any], key: Callable[[], Any], cache: Cache
) -> Splits:
    """Return what a source reads that may well be held in memory, and keep it if there is much."""
    splits = build()
    count = sum(map(len, splits.parts.values()))
    if splits.train.modality != "text" or count < FEWEST or key() != before:
        return splits
    with suppress(CacheError):
        if 2 * sum(size for _, size, *_ in before["files"]) <= cache.free_space():
            return cache.get(
                KIND, before, write=lambda folder: write_splits(folder, splits), read=read_splits,
                about=f"{count:,} texts as read",
            )
    return splits


def _gone(folder: Path) -> None:
    raise CacheError("it was removed by another process")


def _key(
    source: Callable[..., Any], target: str, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what decides on all that is read, as plain values; `None` where nobody knows."""
    files = vars(source).get("reads") if hasattr(source, "__dict__") else None
    if files is None:
        return None
    try:
        found = files(**{k: v for k, v in settings.items() if k not in ("kind", "seed")})
        if found is None:
            return None
        stats = [(str(file.absolute()), file.stat()) for file in found]
    except (UserError, OSError, TypeError):  # the source itself says what is wrong
        return None
    return {
        "target": target, "settings": json.loads(json.dumps(dict(settings), default=repr)),
        "code": _code(),
        # What writes to a file cannot leave its time of change as it was.
        "files": [[name, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for name, one in stats],
    }


@lru_cache(maxsize=1)
def _code() -> str:
    """Return a digest of all that reads data: another version may read it otherwise."""
    together = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        together.update(file.read_bytes())
    return together.hexdigest()


def write_splits(folder: Path, splits: Splits) -> None:
    """Write splits of texts into a folder; texts that are in files of it stay there."""
    about: dict[str, Any] = {
        "labels": splits.labels.to_dict(), "source": dict(splits.source),
        "notices": list(splits.notices), "copies": [asdict(one) for one in splits.copies],
        "slices": splits.slices, "parts": {},
    }
    spooled = (folder / f"{TEXTS}.bin").exists()
    for name, part in splits.parts.items():
        inputs: Any = part.inputs
        ids: Any = part.ids
        if spooled:
            np.save(folder / f"{name}-of.npy", _small(inputs.rows))
        else:
            write_texts(folder, f"{name}-inputs", inputs)
            write_texts(folder, f"{name}-ids", ids)
        _save(folder / f"{name}-digests.npy", fingerprints(part))
        arrays, ragged = as_table(part.annotations, "rows")
        if part.slices is not None:
            arrays |= as_table(part.slices, "slices")[0]
        for number, array in enumerate(arrays.values()):
            np.save(folder / f"{name}-rows-{number}.npy", array, allow_pickle=False)
        about["parts"][name] = {
            "examples": len(part), "pair": bool(len(part)) and not isinstance(inputs[0], str),
            "columns": list(arrays), "ragged": ragged,
        }
    if spooled:
        names: Any = splits.train.ids  # all splits share what is behind theirs
        np.save(folder / "places.npy", names.places)
        about |= {"files": list(names.files), "ends": list(names.ends)}
    for left in folder.glob(f"{SCRATCH}*"):
        left.unlink()  # they stay for as long as they are mapped
    write_json(folder / "splits.json", about)


def read_splits(folder: Path) -> Splits:
    """Return what `write_splits` wrote; texts are read when they are asked for."""
    about = read_json(folder / "splits.json")
    parts, texts = {}, None
    for name, told in about["parts"].items():
        table = {
            column: _mapped(folder / f"{name}-rows-{number}.npy")
            for number, column in enumerate(told["columns"])
        }
        ids: Any
        if "files" in about:
            rows = _mapped(folder / f"{name}-of.npy")
            texts = texts or read_texts(folder, TEXTS, pair=told["pair"])
            inputs = LateTexts(texts.content, texts.ends, pair=told["pair"], rows=rows)
            places = _mapped(folder / "places.npy")
            ids = LateIds(about["files"], about["ends"], places, rows)
        else:
            inputs = read_texts(folder, f"{name}-inputs", pair=told["pair"])
            ids = read_texts(folder, f"{name}-ids")
        slices = of_table(table, {}, "slices") if about["slices"] else None
        part = Examples("text", inputs, of_table(table, told["ragged"], "rows"), ids, slices)
        digests = _mapped(folder / f"{name}-digests.npy")
        if not len(part) == told["examples"] == len(digests):
            raise ValueError(f"{name} has {len(part):,} texts and {len(digests):,} fingerprints")
        part.note(digests, None)
        parts[name] = part
    labels = Labels(about["labels"]["kind"], tuple(about["labels"]["names"]))
    return Splits(
        parts["train"], parts["validation"], parts.get("test"), labels,
        source=about["source"], notices=tuple(about["notices"]),
        copies=tuple(Copy(**one) for one in about["copies"]),
        slices={name: tuple(names) for name, names in about["slices"].items()},
    )


def _mapped(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r").view(np.ndarray)


def _small(rows: np.ndarray) -> np.ndarray:
    return rows.astype(smallest(int(rows.max(initial=0))))


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes that may be mapped: whole, it would be copied into memory."""
    head = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        for start in range(0, len(array), 1 << 16):
            file.write(array[start : start + (1 << 16)].tobytes())
