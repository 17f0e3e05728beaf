"""Where a run's folder is made: `output_dir`, else `outputs/NAME/STAMP`."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from omegaconf import DictConfig

from kerasft.errors import UserError
from kerasft.system.enclosure import require_enclosed
from kerasft.system.files import GONE, at_home, current, read_json
from kerasft.system.folders import require_path

# What a run writes before it trains.
_BEFORE_TRAINING = {"config.yaml", "run.json", "manifest.json", "manifest.arrow",
                    "manifest.new.arrow", "copies.csv"}


def new_folder(cfg: DictConfig, suffix: str = "") -> Path:
    """Make a new folder where the config wants it: `output_dir`, else `outputs/NAME/STAMP`.

    Args:
        cfg: The config.
        suffix: What the stamp ends in.

    Returns:
        The folder, which is empty and can be written to. A run that failed before it had trained
        anything makes room.

    Raises:
        UserError: If it holds something already or cannot be made.
    """
    if cfg.output_dir is not None:
        path = at_home(require_path(cfg.output_dir, "output_dir"))
        # A run that died at its first moment leaves its lock, or half a file.
        try:
            holds = [p.name for p in path.iterdir() if p.name[0] != "."] if path.is_dir() else []
        except OSError as error:
            raise _unwritable(path, error) from error
        if holds and _never_trained(path, holds):
            for name in holds:
                (path / name).unlink()
        elif holds:
            raise UserError(
                f"output_dir must be a new or empty folder. Received: {str(path)!r}, which holds "
                f"{', '.join(sorted(holds)[:5])}. Choose another, or remove it first."
            )
    else:
        stamp = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}{suffix}"
        path = Path("outputs") / cfg.name / stamp
        number = 2
        while path.exists():
            path, number = path.with_name(f"{stamp}_{number}"), number + 1
    if path.is_dir():
        require_enclosed(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.unlink(missing_ok=True)  # of a process that was ended, or a link
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _never_trained(path: Path, holds: list[str]) -> bool:
    """Whether a folder holds nothing but a run that failed before it had trained anything."""
    if not {"run.json"} <= set(holds) <= _BEFORE_TRAINING:
        return False
    if not all((path / name).is_file() for name in holds):
        return False
    try:
        return read_json(path / "run.json", "status")["status"] == "failed"
    except UserError:  # damaged, so that nobody knows
        return False


def _unwritable(path: Path, error: OSError) -> UserError:
    if not path.is_absolute() and current() is None:
        return UserError(GONE)
    return UserError(
        f"output_dir: {str(path)!r} cannot be written: {error.strerror or error}. Choose another "
        "folder with output_dir=DIR."
    )


def point_last(path: Path) -> None:
    """Make `outputs/last` a link to a run below `outputs`, replaced in one step.

    That is the newest one; once runs have been compared, the best of them.
    """
    here = current()
    if path.is_absolute() and here is not None and path.is_relative_to(here):
        path = path.relative_to(here)
    if path.parts[:1] != ("outputs",):  # a run may be put where it is started
        return
    link = Path("outputs/last")
    part = link.with_name(f".last-{os.getpid()}")
    try:
        part.symlink_to(os.path.relpath(path, link.parent))
        part.replace(link)
    except OSError:
        # File systems without links do without this convenience.
        part.unlink(missing_ok=True)
