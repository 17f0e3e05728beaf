"""The environment of subprocesses: where they find their packages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def importable() -> dict[str, str]:
    """Return the setting by which a Python process finds packages where this one does.

    Together with `-P` or `PYTHONSAFEPATH` it finds them nowhere else: not in the folder that it
    begins in, which may be somebody else's.
    """
    places = [str(Path(entry or ".").resolve()) for entry in sys.path]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}


def need_current_folder(prefixes: Sequence[str]) -> bool:
    """Whether what a user trusts may lie in the current folder alone.

    Where it is installed, the folder stays out of the search: it may be somebody else's.

    Args:
        prefixes: Import prefixes.

    Example:
        >>> need_current_folder(["json.decoder"]), need_current_folder(["no_such_package.parts"])
        (False, True)
    """
    names = {prefix.partition(".")[0] for prefix in prefixes}
    return any(name.isidentifier() and find_spec(name) is None for name in names)
