"""The manifest: which examples a run learned from and was measured on, to be compared later."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from kerasft.data.annotations.plain import counts, identified
from kerasft.data.fingerprint import fingerprints, hexed
from kerasft.data.late_columns import LateIds
from kerasft.data.manifest_rows import (
    PartRows,
    belongs_to,
    digest_rows,
    read_rows,
    write_rows,
)
from kerasft.errors import UserError
from kerasft.spec import Examples, Labels, Splits
from kerasft.system.console import listing
from kerasft.system.files import read_json, written_whole
from kerasft.system.recorded import fits, require_fields

# In format 1 the rows of the examples were in the JSON file, too.
FORMAT, WITH_ROWS = 2, 1
_DIGEST = re.compile("[0-9a-f]{64}")


def write_manifest(splits: Splits, path: str | os.PathLike) -> Path:
    """Write down which examples, with which labels and content, make up each split.

    The JSON file has counts and digests. The names, labels and fingerprints of the examples are in
    an Arrow file beside it, which is read piece by piece.

    Args:
        splits: What a source returned.
        path: The JSON file to write; the other one has its name and the suffix `.arrow`.

    Returns:
        The path.

    Example:

    >>> write_manifest(splits, "run/manifest.json")  # doctest: +SKIP
    """
    path, labels = Path(path), splits.labels
    whole = [_summary(part, labels) for part in splits.parts.values()]
    head = {
        "format": FORMAT,
        # Of one order of the examples, whatever order they came in.
        "fingerprint": hashlib.sha256(b"".join(map(bytes.fromhex, whole))).hexdigest(),
        **labels.to_dict(),
        "source": dict(splits.source),
        "notices": list(splits.notices),
        "counts": {name: counts(part, labels) for name, part in splits.parts.items()},
        "splits": {name: {"examples": len(part), "rows": digest_rows(part, labels)}
                   for name, part in splits.parts.items()},
    }  # fmt: skip
    # Beside the one that is there, which the JSON file belongs to until that is replaced: whenever
    # the process ends, there are both files of one manifest.
    new, rows = new_rows_file(path), rows_file(path)
    write_rows(splits.parts, labels, new, of=identity(head))
    lines = [f" {_json(key)}: {_json(value)}" for key, value in head.items()]
    try:
        with written_whole(path) as part:
            part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    except UserError:
        new.unlink(missing_ok=True)
        raise
    new.replace(rows)
    return path


def is_written(splits: Splits, path: Path) -> bool:
    """Whether a manifest is there, whose examples are those of `splits`, as this version writes it.

    Args:
        splits: Examples that `diff_manifest` found no difference in.
        path: The JSON file.
    """
    if not path.is_file() or not rows_file(path).is_file():
        return False
    told = read_json(path)
    return told.get("format") == FORMAT and belongs_to(rows_file(path)) == identity(told) and all(
        json.loads(_json(now)) == told.get(name)
        for name, now in (("source", dict(splits.source)), ("notices", list(splits.notices)))
    )


def rows_file(path: Path) -> Path:
    """Return where the rows of a manifest are."""
    return path.with_suffix(".arrow")


def new_rows_file(path: Path) -> Path:
    """Return where the rows of a manifest are until its JSON file is written."""
    return path.with_suffix(".new.arrow")


def identity(head: Mapping[str, Any]) -> str:
    """Return what the rows of a manifest say they belong to, of what its JSON file holds."""
    digests = [f"{name} {one['examples']} {one['rows']}" for name, one in head["splits"].items()]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _rows_of(path: Path, head: Mapping[str, Any]) -> dict[str, PartRows]:
    """Return the rows of a manifest by split.

    Raises:
        UserError: If they are missing or damaged, or those of another manifest.
    """
    rows, new, wanted = rows_file(path), new_rows_file(path), identity(head)
    sizes = {name: one["examples"] for name, one in head["splits"].items()}
    if new.is_file() and belongs_to(new) == wanted:
        return read_rows(new, sizes)  # the process was ended before it was renamed
    found = read_rows(rows, sizes)
    own = belongs_to(rows)
    # What an older version wrote does not say.
    alike = own == wanted if own else all(
        part.digest() == head["splits"][name]["rows"] for name, part in found.items()
    )
    if not alike:
        raise UserError(
            f"The files {str(path)!r} and {str(rows)!r} are of two manifests: the run was ended "
            "while it wrote them, or one of them was replaced. Which examples it learned from is "
            "not known any more. Put the other file back, or remove both to go on with the data as "
            "it is now."
        )
    return found


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Read what `write_manifest` has written, or an older version of it.

    Args:
        path: The JSON file.

    Returns:
        The manifest, with `splits` a dict of sequences of `[id, label, fingerprint]`.

    Raises:
        UserError: If a file is missing, broken, or no manifest.
    """
    manifest = read_json(path)
    form = manifest.get("format")
    if form not in (FORMAT, WITH_ROWS) or isinstance(form, bool):
        raise UserError(
            f"{path} is no data manifest of format {FORMAT}. It was written by another program, "
            "or by another version of this one."
        )
    missing = [key for key in get_type_hints(_Manifest) if key not in manifest]
    wrong = f"it lacks {', '.join(missing)}" if missing else ""
    if form == WITH_ROWS:
        require_fields(manifest, _Manifest, Path(path))
        rows = [row for part in manifest.get("splits", {}).values() for row in part]
        if not wrong and not all(len(row) == 3 and isinstance(row[0], str) for row in rows):
            wrong = "each example must have its name, its label and a fingerprint"
    else:
        require_fields({k: v for k, v in manifest.items() if k != "splits"}, _Manifest, Path(path))
        parts: Any = manifest.get("splits")
        sound = isinstance(parts, dict) and all(
            isinstance(one, dict) and fits(one.get("examples"), int) and one["examples"] >= 0
            and isinstance(one.get("rows"), str) for one in parts.values()
        )  # fmt: skip
        if not wrong and not sound:
            wrong = "each split must have the number of its examples and a digest of them"
        if not wrong:
            manifest["splits"] = _rows_of(Path(path), manifest)
    if wrong:
        raise UserError(f"The file {str(path)!r} is damaged: {wrong}.")
    return manifest


def digest_of(manifest: Mapping[str, Any], split: str) -> str:
    """Return a digest of which examples a split has, of a manifest as its JSON file says it.

    Args:
        manifest: What the file holds, of either format.
        split: The name of the split.

    Raises:
        AttributeError: If that is no manifest.
    """
    part = manifest["splits"].get(split)
    if isinstance(part, Mapping) and _DIGEST.fullmatch(str(part.get("rows"))):
        return str(part["rows"])
    return hashlib.sha256(json.dumps(part).encode()).hexdigest()


class _Manifest:
    """What `diff_manifest` and the card of a model read."""

    kind: str
    names: list[str]
    source: dict[str, Any]
    splits: dict[str, list[list[Any]]]


def diff_manifest(old: Mapping[str, Any], splits: Splits) -> list[str]:
    """Say how the data differs from what a manifest has written down.

    Args:
        old: What `read_manifest` returned.
        splits: What a source returns now.

    Returns:
        One sentence a difference; none where training and test are the same.
    """
    said = []
    if not splits.labels.is_of(old["kind"]):
        kind = splits.labels.to_dict()["kind"]
        said.append(f"The kind of labels was {old['kind']!r}; now it is {kind!r}.")
    elif tuple(old["names"]) != splits.labels.names:
        said.append(
            f"The classes were {listing(old['names'], 10)}; now they are "
            f"{listing(splits.labels.names, 10)}."
        )
    parts = splits.parts
    if list(old["splits"]) == list(parts) and all(
        isinstance(rows, PartRows) and rows.is_of(parts[name], splits.labels)
        for name, rows in old["splits"].items()
    ):
        return said
    before = _by_id(old["splits"])
    now = _by_id({n: _rows(part, splits.labels) for n, part in splits.parts.items()})
    both = [i for i in now if i in before]
    changes = {
        "are gone": [i for i in before if i not in now],
        "are new": [i for i in now if i not in before],
        "stand in another split": [i for i in both if now[i][0] != before[i][0]],
        "carry another label": [i for i in both if not _same_label(now[i][1], before[i][1])],
        "hold something else": [i for i in both if now[i][2] != before[i][2]],
    }
    for change, ids in changes.items():
        if ids:
            said.append(f"Examples that {change}: {len(ids):,} ({listing(ids)}).")
    return said


def _same_label(now: object, before: Any) -> bool:
    # Numbers were once written down in float32.
    if isinstance(now, float) and isinstance(before, float):
        return now == before or float(np.float32(now)) == before
    return now == before


def _by_id(parts: Mapping[str, Any]) -> dict[str, tuple]:
    return {row[0]: (name, row[1], row[2]) for name, rows in parts.items() for row in rows}


def _rows(part: Examples, labels: Labels) -> list[list[Any]]:
    found = zip(part.ids, identified(part, labels), hexed(fingerprints(part)), strict=True)
    return list(map(list, found))


def _summary(part: Examples, labels: Labels) -> str:
    """Return the SHA-256 of the rows of a split, sorted by name."""
    ids: Any = part.ids
    if isinstance(ids, LateIds):
        return digest_rows(part, labels, ids.order(), plain=True)
    order = sorted(range(len(part)), key=list(ids).__getitem__)
    return digest_rows(part, labels, order, plain=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
