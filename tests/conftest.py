"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `$KERASFT_DATA`, or `../shared/data` beside the checkout."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("KERASFT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set KERASFT_DATA)")
    return folder
