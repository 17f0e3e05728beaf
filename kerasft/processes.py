"""Where the processes that this one starts find their packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def importable() -> dict[str, str]:
    """Return the setting by which a Python process finds packages where this one does.

    Together with `-P` or `PYTHONSAFEPATH` it finds them nowhere else: not in the folder that it
    begins in, which may be somebody else's.
    """
    places = [str(Path(entry or ".").resolve()) for entry in sys.path]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}
