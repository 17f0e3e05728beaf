"""Where things lie in an exported artifact, and how raw examples become its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import check_rules
from kerasft.errors import Unreadable, UserError
from kerasft.raw_input import as_raw
from kerasft.system.files import at_home, read_json

EXTRA = "assets.extra"
DEFAULT = "serving_default"
SIGNATURE, LABELS, PARITY, GOLDEN = "signature.json", "labels.txt", "parity.json", "golden.json"
# Where TensorFlow Serving looks for it, below `assets.extra`.
WARMUP = "tf_serving_warmup_requests"
CARD = "README.md"
# What fewer bits for the weights changed.
WEIGHTS = "weights.json"
# Beside the versions: what a server is set up with.
DEPLOYMENT = "serving"


def version_of(name: str) -> int | None:
    """Return the version that a folder's name says, or `None` where it says none.

    A version is written as `kerasft export` writes it: `7`, not `07`, in ASCII, and of a size that
    a server's messages can hold.

    Example:
        >>> version_of("12"), version_of("\u00b2"), version_of("012"), version_of("9" * 30)
        (12, None, None, None)
    """
    if not (name.isascii() and name.isdigit() and len(name) <= 19):
        return None
    number = int(name)
    return number if str(number) == name and number < 2**63 else None


def versions_of(given: Sequence[str]) -> dict[str, int]:
    """Return the version of each label, from LABEL=VERSION.

    Raises:
        UserError: If one reads otherwise.

    Example:
        >>> versions_of(["stable=3"])
        {'stable': 3}
    """
    labels = {}
    for one in given:
        label, _, version = one.partition("=")
        number = version_of(version)
        if not label or number is None:
            raise UserError(
                f"--label must read LABEL=VERSION, such as stable=3. Received: {one!r}."
            )
        labels[label] = number
    return labels


def versions(directory: str | Path) -> list[int]:
    """Return the version numbers under `directory`, in order; what is no version does not count."""
    found = []
    with suppress(OSError):  # there is none, or it cannot be listed
        for entry in Path(directory).iterdir():
            number = version_of(entry.name)
            if number is not None and _is_folder(entry):
                found.append(number)
    return sorted(found)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()  # not so a link to nowhere
    except OSError:  # nor what may not be looked at
        return False


def find_export(path: str | Path) -> Path:
    """Return the version directory that `path` is, or the newest that it holds.

    Args:
        path: The folder of one version, or its parent.

    Returns:
        The folder with the `saved_model.pb`.

    Raises:
        UserError: If there is no artifact of ours.
    """
    root = at_home(path)
    found = versions(root)
    directory = root if (root / "saved_model.pb").is_file() or not found else root / str(found[-1])
    for name in ("saved_model.pb", f"{EXTRA}/{SIGNATURE}"):
        if not (directory / name).is_file():
            raise UserError(
                f"There is no export at {str(path)!r}: {name} is missing. It takes the folder that "
                "`kerasft export` wrote, or one of the numbered folders in it. (A run "
                "folder has a config.yaml.)"
            )
    return directory


def read_signature(directory: str | Path) -> dict[str, Any]:
    """Return what `signature.json` in an artifact says.

    Args:
        directory: The folder of a version.

    Returns:
        `name`, `kind`, `modality`, `labels`, `decision`, `versions`, and under `signatures` for
        each its `method` (`predict`, `classify` or `regress`), what it `takes` (`raw`, `tensors`
        or `examples`) and its `inputs` and `outputs`: name to `dtype` and `shape`.

    Raises:
        UserError: If it is not there or not whole.
    """
    file = Path(directory) / EXTRA / SIGNATURE
    found = read_json(file, "modality", "labels", "signatures")
    if DEFAULT not in found["signatures"]:
        raise UserError(
            f"{str(file)!r} lists no signature {DEFAULT!r}. It is damaged, or from another "
            "version; export the run again: kerasft export RUN"
        )
    check_rules(found, file)
    return found


def as_inputs(examples: Sequence[Any], signature: Mapping[str, Any]) -> dict[str, list[bytes]]:
    """Return raw examples as the named columns that `serving_default` takes.

    Raises:
        UserError: If pairs are given to a signature for single examples, or the reverse; or if an
            image cannot be read.
    """
    rows, names = list(examples), list(signature["signatures"][DEFAULT]["inputs"])
    for i, row in enumerate(rows):
        count = len(row) if isinstance(row, tuple | list | np.ndarray) else 1
        if count != len(names):
            raise UserError(
                f"This export takes {' and '.join(names)}: {len(names)} value(s) an example. "
                f"Received: {count} in example {i}."
            )
    try:
        raw = as_raw(rows, signature["modality"])
    except OSError as error:
        raise Unreadable(
            f"The image {str(error.filename)!r} cannot be read: {error.strerror}."
        ) from error
    columns = [raw] if raw.ndim < 2 else [raw[:, i] for i in range(raw.shape[1])]
    return {name: column.tolist() for name, column in zip(names, columns, strict=True)}
