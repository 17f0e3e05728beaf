"""The content of an artifact's files, as one number each."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kerasft.artifact.layout import EXTRA, LABELS, SIGNATURE


def digests(directory: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each file that the answers hang on, by its place in the artifact.

    Args:
        directory: The folder of a version.

    Example:
        >>> digests("served/films/1")["saved_model.pb"]  # doctest: +SKIP
        '0dd2ce8f231fdcebe94af5efeddc669dfe6547d22be8975b27c2f1c9f9899dfc'
    """
    root = Path(directory)
    files = [root / "saved_model.pb", *sorted((root / "variables").glob("*")),
             *sorted((root / "assets").rglob("*")), root / EXTRA / SIGNATURE, root / EXTRA / LABELS]
    found = {}
    for file in (file for file in files if file.is_file()):
        with open(file, "rb") as opened:
            found[file.relative_to(root).as_posix()] = hashlib.file_digest(
                opened, "sha256"
            ).hexdigest()
    return found
