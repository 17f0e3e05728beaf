"""How a run is trained again, or gone on with: words for messages."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kerasft.config.composition import load
from kerasft.distributed.cluster import LAUNCHED
from kerasft.errors import Stopped, UserError

_MEMORY = "kerasft.data.sources.memory.memory"


def reads_memory(cfg: DictConfig) -> bool:
    """Whether a config reads data that Python hands over, which no run folder holds.

    Args:
        cfg: The config.

    Example:
        >>> from kerasft.config.composition import compose
        >>> reads_memory(compose(["data=memory"])), reads_memory(compose([]))
        (True, False)
    """
    return str(OmegaConf.select(cfg, "data._target_")) == _MEMORY


def train(run: str | Path) -> str:
    """Return what trains a run again: a command, or a call where the data was in memory.

    Args:
        run: The run folder.

    Example:
        >>> train("outputs/last")
        'kerasft train --from outputs/last'
    """
    if _in_memory(run):
        return (
            "in Python kerasft.train([...], data=DATA), called as before and with the same data, "
            "which the run folder does not hold"
        )
    return f"kerasft train --from {shlex.quote(str(run))}"


def resume(run: str | Path, *, accept: bool = False) -> str:
    """Return what goes on with a run: a command, or a call where the data was in memory.

    Args:
        run: The run folder.
        accept: Whether its data or its config may have changed.

    Example:
        >>> resume("outputs/last", accept=True)
        'kerasft resume outputs/last --accept'
    """
    if _in_memory(run):
        return f"in Python kerasft.resume({str(run)!r}, data=DATA{', accept=True' * accept})"
    return f"kerasft resume {shlex.quote(str(run))}{' --accept' * accept}"


def _in_memory(run: str | Path) -> bool:
    try:
        return reads_memory(load(Path(run) / "config.yaml"))
    except (UserError, OSError):  # whoever reads the config tells what is wrong with it
        return False


def going_on(stopped: Stopped) -> str:
    """Return what goes on with a run that has stopped, in as many processes as it had.

    Args:
        stopped: How it did.
    """
    if stopped.workers == 1:
        return f"kerasft resume {shlex.quote(stopped.folder)}"
    if LAUNCHED in os.environ:
        return f"kerasft launch -n {stopped.workers} -- resume {shlex.quote(stopped.folder)}"
    return f"start all {stopped.workers} workers again as before, with resume=auto"
