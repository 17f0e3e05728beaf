"""Examples made ready: as the data holds them, or as a task reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from kerasft.abilities import Reading
from kerasft.config.building import target_of
from kerasft.config.composition import build, plain
from kerasft.contracts import Task
from kerasft.spec import Preprocess, Splits

if TYPE_CHECKING:
    from kerasft.system.cache import Cache


def read_source(cfg: DictConfig, kind: str) -> Splits:
    """Return what the source of a config reads, from the cache where that was read before.

    Args:
        cfg: The config.
        kind: The kind of its task.
    """
    from kerasft.data import kept_splits, slices

    source, wanted = target_of(cfg.data), slices.asked(plain(cfg.slices))
    reads = slices.reads_columns(source)
    more = {"slices": list(wanted)} if wanted and reads else {}
    settings = {k: v for k, v in plain(cfg.data).items() if k not in ("_target_", "_convert_")}
    splits = kept_splits.read(
        source, str(cfg.data._target_), {**settings, **more, "kind": kind, "seed": cfg.seed},
        build(cfg.cache), lambda: build(cfg.data, kind=kind, seed=cfg.seed, **more),
    )
    return slices.completed(splits, wanted, str(cfg.data._target_), reads=reads)


def read_stores(
    cfg: DictConfig, task: Task, splits: Splits, preprocess: Preprocess, cache: Cache,
    wanted: Sequence[str] | None = None,
) -> tuple[Splits, Mapping[str, Any]]:
    """Return the examples that are trained on and measured, each made ready once.

    Args:
        cfg: The config.
        task: The task.
        splits: The data.
        preprocess: The backbone's preprocessing.
        cache: Where what is made ready is kept.
        wanted: The splits that are needed; all by default.
    """
    from kerasft.data.preprocessing import prepare_splits

    if isinstance(task, Reading):
        return task.read(
            splits, preprocess, lambda parts, made: prepare_splits(parts, made, cache),
            seed=cfg.seed,
        )
    return splits, prepare_splits(splits.parts, preprocess, cache, wanted)
