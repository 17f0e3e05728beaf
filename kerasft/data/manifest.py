"""The manifest: which examples a run learned from and was measured on, to be compared later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from kerasft.data.annotations.plain import counts, identified
from kerasft.data.fingerprint import digest, fingerprint
from kerasft.errors import UserError
from kerasft.spec import Examples, Labels, Splits
from kerasft.system.console import listing
from kerasft.system.files import read_json, written_whole
from kerasft.system.recorded import require_fields

FORMAT = 1


def write_manifest(splits: Splits, path: str | os.PathLike) -> Path:
    """Write down which examples, with which labels and content, make up each split.

    Args:
        splits: What a source returned.
        path: The JSON file to write.

    Returns:
        The path.

    Example:

    >>> write_manifest(splits, "run/data.json")  # doctest: +SKIP
    """
    path = Path(path)
    head = {
        "format": FORMAT,
        "fingerprint": digest(*(_summary(part, splits.labels) for part in splits.parts.values())),
        **splits.labels.to_dict(),
        "source": dict(splits.source),
        "notices": list(splits.notices),
        "counts": {name: counts(part, splits.labels) for name, part in splits.parts.items()},
    }
    # One line an example, so that two manifests can be compared by eye and by `diff`.
    lines = [f" {_json(key)}: {_json(value)}" for key, value in head.items()]
    parts = [
        f"  {_json(name)}: [\n"
        + ",\n".join(f"   {_json(row)}" for row in _rows(part, splits.labels))
        + "\n  ]"
        for name, part in splits.parts.items()
    ]
    lines.append(' "splits": {\n' + ",\n".join(parts) + "\n }")
    with written_whole(path) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def read_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Read what `write_manifest` has written.

    Args:
        path: The JSON file.

    Returns:
        The manifest, with `splits` a dict of lists of `[id, label, fingerprint]`.

    Raises:
        UserError: If the file is missing, broken, or no manifest.
    """
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{path} is no data manifest of format {FORMAT}. It was written by another program, "
            "or by another version of this one."
        )
    require_fields(manifest, _Manifest, Path(path))
    rows = [row for part in manifest.get("splits", {}).values() for row in part]
    missing = [key for key in get_type_hints(_Manifest) if key not in manifest]
    if missing or not all(len(row) == 3 and isinstance(row[0], str) for row in rows):
        wrong = f"it lacks {', '.join(missing)}" if missing else (
            "each example must have its name, its label and a fingerprint"
        )
        raise UserError(f"The file {str(path)!r} is damaged: {wrong}.")
    return manifest


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


def _by_id(parts: Mapping[str, list]) -> dict[str, tuple]:
    return {row[0]: (name, row[1], row[2]) for name, rows in parts.items() for row in rows}


def _rows(part: Examples, labels: Labels) -> list[list[Any]]:
    return [
        [name, label, fingerprint(value, part.modality)]
        for name, label, value in zip(part.ids, identified(part, labels), part.inputs, strict=True)
    ]


def _summary(part: Examples, labels: Labels) -> str:
    return _json(sorted(_rows(part, labels), key=lambda row: row[0]))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
