"""Versions are loaded in threads that nothing has to wait for."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

# More of a version is not looked at, but for what a loader opens in any case.
_MOST_FILES = 10_000
_OPENED = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "fingerprint.pb")
_FOLDERS = ("variables", "assets", "assets.extra")


class Aside(Executor):
    """Does each thing in a thread of its own, which ends with the process at the latest.

    A version is a program: it may never be loaded. A pool would keep others waiting, and the
    process from ending.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Do something; return its future."""
        future: Future = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                found = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(found)

        threading.Thread(target=work, name="kerasft-load", daemon=True).start()
        return future


def require_files(folder: Path) -> None:
    """See that all files of a version are files: a pipe would be waited for without end.

    Raises:
        OSError: If there is a pipe, a device or a socket in it, or a link to one.
    """
    opened = (folder / name for name in _OPENED)
    # A folder that is opened in any case may be a link; other links to folders are not followed.
    inside = chain.from_iterable(_within(folder / name) for name in _FOLDERS)
    for path in chain(opened, islice(inside, _MOST_FILES), islice(_within(folder), _MOST_FILES)):
        try:
            mode = path.stat().st_mode
        except OSError:  # not there, or a link to nowhere: the loader says it, if it needs it
            continue
        may_be_folder = path.parent != folder or path.name not in _OPENED
        if not (stat.S_ISREG(mode) or (may_be_folder and stat.S_ISDIR(mode))):
            raise OSError(f"{path.relative_to(folder)} is no file")


def stamp(folder: Path) -> float:
    """Return when a version was last written to, as far as it can be seen."""
    latest = 0.0
    for path in islice(chain([folder], _within(folder)), _MOST_FILES):
        with suppress(OSError):  # taken away meanwhile, or not to be looked at
            latest = max(latest, path.lstat().st_mtime)
    return latest


def _within(folder: Path) -> Iterator[Path]:
    """Yield what lies in a version; no link is followed, for it may lead anywhere."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files))
