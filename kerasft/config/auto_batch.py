"""`batch_size=auto`: what stands in its place until it is measured, and what it goes with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.config.parameters import NotFound, define
from kerasft.config.schema import Root

AUTO = "auto"
DEFAULT = int(Root.batch_size)
# How an optimizer learns from several batches at once.
ACCUMULATION = "gradient_accumulation_steps"


def usual(
    cfg: DictConfig, overrides: Sequence[str], composed: Callable[[Sequence[str]], DictConfig]
) -> None:
    """Note in a composed config what an update learns from where `batch_size=auto`.

    That is the number that `auto` has taken the place of: of an experiment, a data set, or the
    default.

    Args:
        cfg: The config, changed in place.
        overrides: What it was composed of.
        composed: Composes others.
    """
    try:
        given = cfg.batch_size
    except OmegaConfBaseException:  # the check tells
        return
    if isinstance(given, str) and re.fullmatch(r" *\d{1,30} *", given):
        cfg.batch_size = int(given)  # of a variable of the environment, which is text
    if given != AUTO or cfg.effective_batch is not None:
        return
    if isinstance(cfg.batch_tokens, int):
        number: int = cfg.batch_tokens
    else:
        others = [one for one in overrides if not re.match(r"[+]*batch_size=", one)]
        before = composed(others).batch_size if others != list(overrides) else AUTO
        number = before if isinstance(before, int) else DEFAULT
    cfg.effective_batch = number * accumulated(cfg)


def accumulated(cfg: DictConfig) -> int:
    """Return how many batches an update learns from.

    Example:
        >>> accumulated(OmegaConf.create({"optimizer": {"gradient_accumulation_steps": 4}}))
        4
    """
    node = cfg.optimizer
    steps = node.get(ACCUMULATION) if isinstance(node, DictConfig) else None
    return steps if isinstance(steps, int) and steps > 1 else 1


def counted(cfg: DictConfig) -> dict[str, float]:
    """Return the settings that count batches, by key: with smaller ones they must grow.

    Example:
        >>> counted(OmegaConf.create({"max_steps": 9, "schedule": {"warmup": 0.1}}))
        {'max_steps': 9}
    """
    found = {key: OmegaConf.select(cfg, key) for key in ("max_steps", "schedule.warmup")}
    # A warm-up of at most 1 is a share.
    return {
        key: value for key, value in found.items()
        if isinstance(value, int | float) and (key == "max_steps" or value > 1)
    }


def examples(cfg: DictConfig) -> int:
    """Return the examples in a batch; of `auto`, before it is measured, those of an update.

    Example:
        >>> examples(OmegaConf.create({"batch_size": "auto", "effective_batch": 48}))
        48
    """
    if cfg.batch_size != AUTO:
        return int(cfg.batch_size)
    in_tokens = cfg.get("batch_tokens") is not None
    return DEFAULT if in_tokens else cfg.effective_batch or DEFAULT


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with the size of a batch.

    Args:
        cfg: A config without interpolations.
    """
    size = cfg.batch_size
    if isinstance(size, str) and size != AUTO:
        yield "batch_size", (
            "batch_size must be a whole number of examples, or auto for the most that fit in "
            f"memory. Received: {size[:40]!r}."
        )
    elif isinstance(size, int) and size < 1:
        yield "batch_size", f"batch_size must be at least 1. Received: {size}."
    whole, memory = cfg.effective_batch, cfg.memory_gb
    if whole is not None and whole < 1:
        yield "effective_batch", f"effective_batch must be at least 1. Received: {whole}."
    elif whole is not None and isinstance(size, int):
        key = "batch_size" if cfg.batch_tokens is None else "batch_tokens"
        one, each = cfg[key], accumulated(cfg)
        if isinstance(one, int) and not one * each <= whole < (one + 1) * each:
            yield "effective_batch", (
                "effective_batch is what an update learns from with batch_size=auto. Received: "
                f"{whole}, with {key}={one}"
                + (f" and optimizer.{ACCUMULATION}={each}" if each > 1 else "")
                + ". Set batch_size=auto, or leave effective_batch out."
            )
    if memory is not None and not memory > 0:
        yield "memory_gb", f"memory_gb must be above 0. Received: {memory}."
    if size != AUTO or not isinstance(cfg.optimizer, DictConfig):
        return
    try:
        takes = define(str(cfg.optimizer.get("_target_")))
    except (NotFound, SyntaxError):  # told of the optimizer itself
        return
    if ACCUMULATION not in takes.parameters and not takes.open:
        yield "batch_size", (
            "batch_size=auto needs an optimizer that learns from several batches at once "
            f"({ACCUMULATION}), and {cfg.optimizer.get('_target_')} takes no such argument. Set "
            "batch_size to a number, or choose another optimizer."
        )


def keep_whole(cfg: DictConfig) -> None:
    """Let `effective_batch` say what a config's numbers come to, where it says something."""
    if cfg.effective_batch is not None:
        key = "batch_size" if cfg.batch_tokens is None else "batch_tokens"
        OmegaConf.update(cfg, "effective_batch", cfg[key] * accumulated(cfg))
