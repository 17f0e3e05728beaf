"""What a version holds is looked at before anything of it is opened."""

from __future__ import annotations

import os

import pytest

from kerasft.errors import UserError
from kerasft.serving.bench import bench
from kerasft.serving.loading import Aside, require_files
from kerasft.serving.verify import verify


@pytest.fixture
def version(tmp_path):
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/signature.json"):
        file = tmp_path / "1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return tmp_path / "1"


@pytest.mark.parametrize("name", [
    "saved_model.pb", "variables/variables.index", "assets/deep/down/pipe", "assets.extra/pipe",
    "other/pipe", "saved_model.pbtxt",
])  # fmt: skip
@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_is_found_wherever_it_lies(name, link, version, tmp_path):
    require_files(version)
    file = version / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe" if link else file)
    if link:
        file.symlink_to(tmp_path / "pipe")
    with pytest.raises(OSError, match=f"^{name} is no file$"):
        require_files(version)


def test_links_that_are_not_opened_do_no_harm(version, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, to in (("nowhere", "none"), ("everything", "/"), ("itself", "itself"),
                     ("beside", tmp_path)):  # fmt: skip
        (version / name).symlink_to(to)
    require_files(version)
    (version / "saved_model.pb").unlink()
    (version / "saved_model.pb").mkdir()
    with pytest.raises(OSError, match=r"saved_model\.pb is no file"):
        require_files(version)


@pytest.mark.parametrize("command", [verify, bench])
def test_what_else_opens_an_export_looks_first(command, version):
    os.mkfifo(version / "variables" / "variables.data")
    with pytest.raises(UserError, match=r"variables/variables\.data is no file"):
        command(version)


def test_what_is_done_aside_gives_what_it_finds_or_raises():
    with Aside() as aside:
        assert aside.submit(divmod, 7, 2).result(10) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            aside.submit(divmod, 7, 0).result(10)
