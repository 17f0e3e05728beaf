"""Creates a sweep: copies all that its trials are composed of, and makes its study."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.config import composition
from kerasft.errors import UserError
from kerasft.sweeps import journal
from kerasft.sweeps.ledger import FILE, Ledger
from kerasft.system.enclosure import require_enclosed
from kerasft.system.files import write_json
from kerasft.system.provenance import versions

# Held by who begins a sweep in a folder.
LOCK = ".beginning.lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep others from beginning a sweep in the same folder meanwhile; it is made.

    Raises:
        UserError: If it cannot be written.
    """
    from filelock import FileLock

    if folder.is_dir():
        require_enclosed(folder)
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"{str(folder)!r} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def create(
    folder: Path, overrides: Sequence[str], search: Mapping[str, Any], *,
    objectives: Sequence[str], directions: Sequence[str], config_dirs: Sequence[str],
    trusted: Sequence[str],
) -> Ledger:
    """Begin a sweep: freeze all that its trials are composed of.

    Args:
        folder: An empty folder.
        overrides: What every run is given, and what is varied.
        search: The checked values of `sweep`.
        objectives: Names of the objectives.
        directions: Whether each is to be large or small.
        config_dirs: Folders with configs of the user's own.
        trusted: Import prefixes that a `_target_` may start with.

    Returns:
        The sweep.
    """
    shutil.copytree(composition.config_dir(), folder / "conf")
    (folder / "logs").mkdir()
    return begin(
        folder, overrides, search, objectives=objectives, directions=directions,
        configs=config_dirs, trusted=trusted,
    )


def begin(
    folder: Path, overrides: Sequence[str], search: Mapping[str, Any], *,
    objectives: Sequence[str], directions: Sequence[str], configs: Sequence[str | Path],
    trusted: Sequence[str],
) -> Ledger:
    """Begin a sweep of any application; see `create`.

    Args:
        folder: A folder.
        overrides: What every run is given, and what is varied.
        search: The checked values of `sweep`.
        objectives: Names of the objectives.
        directions: Whether each is to be large or small.
        configs: Folders of configs that are copied.
        trusted: Import prefixes that a `_target_` may start with.
    """
    copies = []
    for number, place in enumerate(configs):
        copies.append(f"conf_{number}")
        _copy_configs(Path(place), folder / copies[-1], beside=folder)
    facts = {
        # A database may hold sweeps of other folders with the same name.
        "study": f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}",
        "overrides": list(overrides), "search": dict(search),
        "objectives": list(objectives), "directions": list(directions), "config_dirs": copies,
        "versions": versions(),
    }
    _new_study(folder, facts)
    # Last: a folder without it is no sweep.
    write_json(folder / FILE, facts)
    return Ledger(folder, facts, tuple(trusted))


def _new_study(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make the study of a sweep: from now on it is read, and never made anew."""
    import optuna

    url = facts["search"]["storage"]
    storage = journal.open_storage(folder, url, new=True)
    with journal.named(folder, url):
        optuna.create_study(
            study_name=facts["study"], storage=storage, directions=facts["directions"]
        )


def _copy_configs(source: Path, copy: Path, *, beside: Path) -> None:
    """Copy the YAML files below a folder, which may hold much else, and the sweep itself."""
    copy.mkdir()
    for file in sorted(source.rglob("*.y*ml")):
        if not file.is_file() or beside.resolve() in file.resolve().parents:
            continue
        target = copy / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
