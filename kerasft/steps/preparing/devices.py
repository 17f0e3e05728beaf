"""The devices of a run: found, told, and seen to be of one mind before anything trains."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kerasft.config import distribution
from kerasft.config.composition import to_yaml
from kerasft.config.diff import leaves
from kerasft.distributed import group as groups
from kerasft.distributed.cluster import overlooked
from kerasft.distributed.group import Group, current
from kerasft.errors import AGAIN, Stopped, UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Splits
from kerasft.system.console import say, warn
from kerasft.system.provenance import versions

# What may differ between the workers of a run: it is of each one's own machine.
FREE = ("cache.directory", "cache.limit_gb", "memory_gb", "progress")
# Seconds that a file may take to come to another machine.
COMES = 30.0
# Seconds in which others see how the first worker has ended.
SOON = 3.0


@contextmanager
def forming(cfg: DictConfig) -> Iterator[Group]:
    """Form the group that a config asks for, and train on it in the block.

    Args:
        cfg: The config.

    Raises:
        UserError: If there is no such group, its workers have other configs or versions, or it
            has more devices than a batch has examples.
    """
    if said := overlooked(cfg.distribute):
        warn(said)
    if cfg.distribute is None:
        with groups.working(groups.ALONE):
            yield groups.ALONE
        return
    found = groups.form(cfg.distribute, timeout=cfg.distribute_timeout)
    if found.rank == 0 and found.said:
        say(found.said)
    with groups.working(found):
        distribution.require_shares(cfg, found.replicas)
        _require_alike(found, cfg)
        done = False
        try:
            yield found
            done = True
            found.any(False)  # nobody leaves before the first one is done
        except Stopped as stopped:
            if found.rank:
                if _was_done(found, cfg, stopped):
                    return
            elif done:  # the others had nothing to do any more
                warn(f"{stopped.reason}, after the run was done")
                return
            raise


def _was_done(group: Group, cfg: DictConfig, stopped: Stopped) -> bool:
    """Whether the first worker, which ended before this one, has done all.

    Raises:
        UserError: If it failed: it would do so again, whoever starts it.
    """
    assert group.cluster is not None
    if stopped.code != AGAIN or not cfg.output_dir:
        return False
    folder, until = RunFolder(Path(cfg.output_dir), rank=group.rank), time.monotonic() + SOON
    # What it wrote last may take a moment to be seen on another machine.
    while (facts := folder.facts()).get("status") == "running" and time.monotonic() < until:
        time.sleep(0.2)
    if facts.get("status") == "failed":
        raise UserError(
            f"{group.cluster.name(0)} has failed, and this worker ends with it: "
            f"{facts.get('reason', 'see run.json')}"
        ) from stopped
    return facts.get("status") == "done"


def _require_alike(group: Group, cfg: DictConfig) -> None:
    values = leaves(OmegaConf.to_container(cfg, resolve=True))
    facts = {
        key: repr(value) for key, value in values
        if not any(key == one or key.startswith(f"{one}.") for one in FREE)
    }
    group.require_alike(
        "config", facts, "Start all of them with the same command."
    )
    group.require_alike("versions", versions(), "Give all of them the same environment.")


def settle(cfg: DictConfig, settle: Callable[[DictConfig], float]) -> float:
    """Settle what a config leaves open, in the first worker, and have the others follow it.

    Args:
        cfg: The config, changed in place.
        settle: Does it, and returns when it began.

    Returns:
        When it began, of `time.monotonic()`.
    """
    group = current()
    if group.workers == 1:
        return settle(cfg)
    began = time.monotonic()
    if group.rank == 0:
        began = settle(cfg)
        group.texts(to_yaml(cfg))
        return began
    settled = OmegaConf.create(group.texts("")[0])
    own = {key: OmegaConf.select(cfg, key) for key in FREE}
    for key in list(settled):
        OmegaConf.update(cfg, str(key), settled[key], merge=False, force_add=True)
    for key, value in own.items():
        if OmegaConf.select(cfg, key) != value:
            OmegaConf.update(cfg, key, value, force_add=True)
    return began


def folder_of(cfg: DictConfig, create: Callable[[], RunFolder]) -> RunFolder:
    """Return the run folder: made by the first worker, and seen by all.

    Args:
        cfg: The config; its `output_dir` names the folder from now on.
        create: Makes or finds it.

    Raises:
        UserError: If a worker does not see it.
    """
    group = current()
    if group.workers == 1:
        return create()
    if group.rank == 0:
        folder = create()
        group.texts(str(folder.path.absolute()))
        mark = folder.path / f".workers-{os.getpid()}"
        mark.touch()
        try:
            _require_seen(group, "")
        finally:
            mark.unlink(missing_ok=True)
        return folder
    path = Path(group.texts("")[0])
    began, seen = time.monotonic(), False
    while not seen and time.monotonic() < began + COMES:
        seen = any(path.glob(".workers-*"))
        time.sleep(0.0 if seen else 0.5)
    _require_seen(group, "" if seen else str(path))
    cfg.output_dir = str(path)
    return RunFolder(path, rank=group.rank)


def _require_seen(group: Group, missed: str) -> None:
    assert group.cluster is not None
    blind = [rank for rank, text in enumerate(group.texts(missed)) if text]
    if blind:
        raise UserError(
            "output_dir must be a folder that all workers see, since all go on from its "
            f"checkpoints. {', '.join(map(group.cluster.name, blind))} "
            f"{'does' if len(blind) == 1 else 'do'} not see it. Choose one on a file system that "
            "the machines share."
        )


def require_same_data(splits: Splits, stores: Mapping[str, Any]) -> None:
    """See that all workers have made the same examples ready.

    Args:
        splits: The examples.
        stores: What was made of them, by split.

    Raises:
        UserError: If not, with the split.
    """
    group = current()
    if group.workers == 1:
        return
    facts = {}
    for name, part in splits.parts.items():
        digest = _digest(part.ids)
        key = getattr(stores.get(name), "key", "")
        facts[name] = f"{len(part):,} examples {digest[:12]} {key[:12]}".rstrip()
    group.require_alike("data", facts, "Give all of them the same files.")


def _digest(names: Iterable[str]) -> str:
    """Return the SHA-256 of names, one a line, never holding all of them."""
    together = hashlib.sha256()
    for number, name in enumerate(names):
        together.update(("\n" * bool(number) + name).encode("utf-8", "surrogatepass"))
    return together.hexdigest()


def require_same_checkpoint(state: Any) -> None:
    """See that all workers go on from one checkpoint.

    Args:
        state: What this one goes on from; `None` for the beginning.

    Raises:
        UserError: If not: they do not see the same files.
    """
    current().require_alike(
        "checkpoint", {"position": "none" if state is None else str(state.position)},
        "Their output_dir must be one folder of a file system that all of them see.",
    )
