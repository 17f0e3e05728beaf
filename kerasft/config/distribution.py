"""What `distribute` goes with, in words of a config."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from kerasft.config import auto_batch
from kerasft.distributed.cluster import KINDS
from kerasft.errors import nearest


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with the devices of a run.

    Args:
        cfg: A config without interpolations.
    """
    kind = cfg.distribute
    if kind not in KINDS:
        names = [one for one in KINDS if one]
        yield "distribute", (
            f"distribute must be null or one of {', '.join(names)}. Received: {kind!r}."
            + nearest(kind, names)
        )
        return
    if not cfg.distribute_timeout > 0:
        yield "distribute_timeout", (
            "distribute_timeout is in seconds and must be above 0. Received: "
            f"{cfg.distribute_timeout}."
        )
    if kind is None:
        return
    if cfg.batch_size == auto_batch.AUTO:
        yield "batch_size", (
            "batch_size=auto measures what fits on one device, and batch_size is that of all "
            f"devices together with distribute={kind}. Give a number."
        )
    if cfg.budget is not None:
        yield "budget", (
            "budget times a few steps on one device, and says nothing of several. Leave it out, or "
            f"end a run with max_time or max_steps. Received: distribute={kind}."
        )
    faults = cfg.faults if isinstance(cfg.faults, DictConfig) else {}
    if kind != "mirrored" and faults.get("memory") == "halve":
        yield "faults.memory", (
            "faults.memory=halve restarts a run within its process, and the other workers of "
            f"distribute={kind} would wait for it. Set batch_size lower."
        )
