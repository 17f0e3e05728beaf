"""The runs that a leaderboard compares: of a sweep, or of any folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kerasft.config.moved import renew
from kerasft.config.yaml_limits import require_small
from kerasft.contracts import Task
from kerasft.data.manifest import digest_of
from kerasft.errors import UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.sweeps.ledger import Ledger
from kerasft.sweeps.space import SEED
from kerasft.sweeps.summary import best, tests
from kerasft.sweeps.trials import has_figures, is_finite
from kerasft.system.console import warn
from kerasft.system.enclosure import require_readable
from kerasft.system.files import read_json
from kerasft.system.recorded import read_figures, read_labels


@dataclass(frozen=True)
class Entry:
    """A run.

    Args:
        run: Its name: its folder below the one that is looked at, or the number of the trial.
        folder: Its folder, which need not be there.
        status: How it ended, or that it has not.
        settings: What sets it apart from the others, but for its seed.
        seed: Its seed, where seeds differ.
        figures: By split, as `metrics.json` has them; for a trial its objectives, too.
        monitor: The figure that its epochs were chosen by.
        reason: Why it failed or was pruned, where that is known.
        objectives: What a sweep wants more or less of, by name.
        front: Whether none is better in each objective, where there are several.
    """

    run: str
    folder: Path
    status: str
    settings: dict[str, Any]
    seed: Any = None
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    monitor: str | None = None
    reason: str | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    front: bool | None = None

    def value(self, metric: str) -> float | None:
        """Return a figure of its validation split."""
        return _figure(self.figures, "validation", metric)

    def tested(self, metric: str) -> float | None:
        """Return a figure of its test split."""
        return _figure(self.figures, "test", metric)


def _figure(figures: Mapping[str, Any], split: str, metric: str) -> float | None:
    """Return a figure; `None` where there is none, or where it is not finite."""
    of_split = figures.get(split)
    found = of_split.get(metric) if isinstance(of_split, Mapping) else None
    return float(found) if is_finite(found) else None


def of_sweep(ledger: Ledger) -> list[Entry]:
    """Return the trials of a sweep, in order."""
    words = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "WAITING": "planned"}
    names = ledger.facts["objectives"]
    try:
        tested = tests(ledger)
    except UserError as error:
        warn(f"no test metrics are shown: {' '.join(error.problems)}")
        tested = []
    front = {trial.number for trial in best(ledger)}
    found = []
    for trial in ledger.trials():
        point = dict(trial.user_attrs["values"])
        folder = ledger.run_folder(trial.number)
        figures: dict[str, Any] = {}
        damaged = False
        if trial.state.name == "COMPLETE":
            figures, damaged = _measured(folder)
            if not damaged:
                figures |= dict(zip(names, trial.values, strict=True))
            figures = {"validation": figures}
        if of_test := [one["metrics"] for one in tested if one.get("trial") == trial.number]:
            figures["test"] = of_test[-1]
        status = words.get(trial.state.name, "running")
        if status == "done" and not has_figures(trial):
            status = "done, not finite"
        if status == "pruned" and trial.last_step is not None:
            status = f"pruned after {trial.last_step}"
        if damaged:
            status = "damaged: metrics.json"
        found.append(Entry(
            str(trial.number), folder, status, point, point.pop(SEED, None), figures, names[0],
            reason=trial.user_attrs.get("reason"),
            objectives=dict(zip(names, trial.values, strict=True)) if has_figures(trial) else {},
            front=trial.number in front if len(names) > 1 else None,
        ))  # fmt: skip
    return found


def _measured(folder: Path) -> tuple[dict[str, Any], bool]:
    """Return the figures of a trial's validation split, and whether their file is damaged."""
    file = RunFolder(folder).metrics
    if not file.is_file():
        return {}, False
    try:
        return dict(read_figures(file).get("validation", {})), False
    except UserError:
        return {}, True


def of_folder(root: Path) -> list[Entry]:
    """Return the runs below a folder, by name."""
    found = sorted({file.parent.resolve() for file in root.rglob("run.json")})
    read = [_read(folder, root.resolve()) for folder in found]
    flat = [_flat(config) for _, config in read]
    differing = _differing(flat)
    entries = []
    for (entry, _), config in zip(read, flat, strict=True):
        settings = {key: config.get(key) for key in differing if key != SEED}
        seed = config.get(SEED) if SEED in differing else None
        entries.append(Entry(entry.run, entry.folder, entry.status, settings, seed, entry.figures,
                             entry.monitor, entry.reason))  # fmt: skip
    return entries


def _read(folder: Path, root: Path) -> tuple[Entry, Any]:
    """Return a run and its config; a damaged file costs its run the rank, no more."""
    damaged = []
    try:
        require_readable(folder)
    except UserError:
        # What is waited for is not read.
        name = str(folder.relative_to(root)) if folder != root else folder.name
        return Entry(name, folder, "damaged: no plain files", {}), {}

    def mapping(file: str, read: Callable[[Path], Any]) -> dict[str, Any]:
        if not (folder / file).is_file():
            return {}
        try:
            found = read(folder / file)
        except (UserError, OSError, ValueError, TypeError, RecursionError, OverflowError,
                YAMLError, OmegaConfBaseException):
            found = None
        if not isinstance(found, dict):
            damaged.append(file)
        return found if isinstance(found, dict) else {}

    facts = mapping("run.json", read_json)
    config = mapping("config.yaml", _settings)
    metrics = mapping("metrics.json", read_figures)
    status = f"damaged: {', '.join(damaged)}" if damaged else facts.get("status", "unknown")
    task = mapping("task.json", read_json)  # without one it failed early, or has its figures still
    monitor, reason = task.get("monitor"), facts.get("reason")
    name = str(folder.relative_to(root)) if folder != root else folder.name
    entry = Entry(
        name, folder, str(status), {}, figures={} if damaged[:1] not in ([], ["task.json"])
        else metrics, monitor=None if monitor is None else str(monitor).removeprefix("val_"),
        reason=None if reason is None else str(reason),
    )  # fmt: skip
    return entry, config


def _settings(file: Path) -> Any:
    require_small(file)
    cfg = OmegaConf.load(file)
    renew(cfg)
    found = OmegaConf.to_container(cfg)
    json.dumps(found, default=str)  # which some keys and numbers cannot be
    return found


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        found: dict[str, Any] = {}
        for key, value in node.items():
            found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: node}


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all runs."""
    keys = sorted({key for config in configs for key in config})
    return [
        key for key in keys
        if key != "output_dir" and len({json.dumps(c.get(key), default=str) for c in configs}) > 1
    ]


@dataclass(frozen=True)
class Sample:
    """What a run kept of each example of its validation split.

    Args:
        task: The run's task.
        labels: What its labels mean.
        statistics: What its figures are computed from, each `[N, ...]`.
        examples: A digest of which examples they are.
        count: How many there are.
    """

    task: Task
    labels: Any
    statistics: Mapping[str, Any]
    examples: str
    count: int


def sample(entry: Entry, trusted: Sequence[str] = ()) -> Sample | None:
    """Return what a run kept of its examples; `None` where it kept nothing that is whole."""
    from kerasft.runs import evidence
    from kerasft.tasks import shared

    folder = RunFolder(entry.folder)
    try:
        annotations, kept = evidence.read(folder).measured["validation"]
        task = shared.load(read_json(folder.task, "class"), trusted=("kerasft", *trusted))
        labels = read_labels(folder.labels)
        manifest = read_json(folder.manifest, "splits")
        if not labels.is_of(task.kind) or not isinstance(manifest["splits"], dict):
            return None  # files of several runs
        statistics = task.statistics(annotations, kept, labels)
    except (UserError, KeyError, ValueError, IndexError, TypeError):
        return None
    examples = digest_of(manifest, "validation")
    return Sample(task, labels, statistics, examples, len(annotations))
