"""What the tests of reading data share."""

import pytest


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """A folder of its own for what can be made again, which all of kerasft goes by."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KERASFT_CACHE", str(folder))
    return folder
