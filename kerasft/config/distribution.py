"""What `distribute` goes with, in words of a config."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from kerasft.config import auto_batch
from kerasft.distributed.cluster import KINDS, find
from kerasft.errors import UserError, nearest


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
    if kind != "mirrored" and (told := lacking(cfg, _processes())):
        yield "batch_size", told
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


def _processes() -> int:
    """Return how many processes there are, as far as the variables of this one say."""
    try:
        found = find()
    except UserError:  # told when they are to find each other
        return 1
    return 1 if found is None else len(found.addresses)


def lacking(cfg: DictConfig, devices: int) -> str:
    """Say that a batch has too few examples for each device to get one, if so.

    Args:
        cfg: The config.
        devices: How many there are, in all processes together.

    Returns:
        A message, or `""`. Batches of `batch_tokens` have as many examples as fit.
    """
    size = cfg.batch_size
    if cfg.batch_tokens is not None or not isinstance(size, int) or size >= devices:
        return ""
    return (
        "batch_size is that of all devices together, and must not be smaller than their number: "
        f"some would never have an example. Received: {size} for {devices} devices. Set "
        f"batch_size={devices}, or a multiple of it, or train on fewer devices."
    )


def require_shares(cfg: DictConfig, devices: int) -> None:
    """See that a batch has an example for each device.

    Args:
        cfg: The config.
        devices: How many there are, in all processes together.

    Raises:
        UserError: If not.
    """
    if told := lacking(cfg, devices):
        raise UserError(told)
