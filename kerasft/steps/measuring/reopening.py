"""A finished run opened again, and measured again on its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig

from kerasft.config.checks import check
from kerasft.config.composition import build
from kerasft.errors import UserError
from kerasft.runs import run_folder
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Splits
from kerasft.steps.measuring import samples, slicing
from kerasft.steps.measuring.measure import closing_table
from kerasft.steps.preparing.prepare import build_task, read_splits
from kerasft.steps.preparing.reading import read_stores
from kerasft.system.console import warn
from kerasft.system.enclosure import require_enclosed


def reopen(
    run: str, trusted: Sequence[str] = (), *, slices: str | Sequence[str | int] | None = None
) -> tuple[run_folder.RunFolder, FineTuned, DictConfig]:
    """Load a run folder with its model and config, to write to it.

    The config is checked as when it was composed: a run folder may come from anywhere.

    Args:
        run: The run folder.
        trusted: Import prefixes that the run's own parts may come from.
        slices: What stands in place of the config's own `slices`, if anything.
    """
    from kerasft.runs import finetuned

    folder, cfg = run_folder.open_run(run)
    require_enclosed(folder.path)
    if slices is not None:
        cfg.slices = slices if isinstance(slices, str) else list(slices)
    with folder.at_its_command():
        check(cfg, trusted=trusted)
    return folder, finetuned.load(folder, cfg, trusted=trusted), cfg


def read_data(cfg: DictConfig, folder: run_folder.RunFolder) -> Splits:
    """Read a run's data anew and warn where it is no longer what the run saw."""
    splits, differences = read_splits(cfg, build_task(cfg).kind, folder.manifest)
    for difference in differences:
        warn(f"the data has changed since the run: {difference}")
    return splits


def measure_splits(
    cfg: DictConfig, finetuned: FineTuned, splits: Splits, split: str | None,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Measure the splits asked for, and say the figures."""
    allowed = list(splits.parts)
    if split is not None and split not in allowed:
        raise UserError(f"split must be one of {', '.join(allowed)}. Received: {split!r}.")
    metrics = {}
    wanted = [split] if split else [n for n in allowed if n != "train"]
    splits, stores = read_stores(
        cfg, finetuned.task, splits, finetuned.preprocess, build(cfg.cache), wanted
    )
    for name in wanted:
        part = splits.parts[name]
        kept = finetuned.measure(stores[name], finetuned.targets(part.annotations)).rows
        if splits.slices and part.slices is None:
            warn(f"{name} has no slices: what is measured there is put together of several "
                 "examples")
        statistics = finetuned.statistics(part.annotations, kept)
        figures = metrics[name] = finetuned.task.figures(statistics, finetuned.labels)
        figures |= slicing.by_slices(finetuned, part, splits.slices, statistics, figures)
        if name == "validation":
            samples.add(finetuned, part, metrics[name], tell=tell)
    tell(closing_table(finetuned.task.headlines, metrics, None))
    slicing.tell(finetuned.task, metrics, tell)
    return metrics
