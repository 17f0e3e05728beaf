"""What a run should beat: logistic regression on the untouched features, and on counts of words."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kerasft.config.composition import plain
from kerasft.contracts import Solvable, Task
from kerasft.data.sample import sample
from kerasft.errors import UserError
from kerasft.evaluation.metrics import direction
from kerasft.evaluation.uncertainty import mcnemar, right
from kerasft.rows import Rows
from kerasft.runs import run_folder
from kerasft.runs.finetuned import eval_batch_size
from kerasft.spec import Backbone
from kerasft.steps.fitting import solving
from kerasft.steps.fitting.solving import Solved
from kerasft.steps.measuring.measure import Measured
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.console import say, warn
from kerasft.system.files import write_json
from kerasft.system.terminal import status

# The part of a run that the features may take where the user asked for nothing.
SHARE = 0.05
# The most training examples that a floor is fitted to, the most products of a number of them with
# one of the kernel, and the most numbers in the kernel: more would take minutes.
MOST, MOST_WORK, MOST_WEIGHTS = 20_000, 2e8, 750_000
# With fewer examples for each output than this, a linear model says little.
FEWEST = 5
# With fewer words than this, counts say little.
FEWEST_WORDS = 2000

TITLES = {
    "features": "the untouched features of the backbone",
    "words": "counted words (TF-IDF)",
}
REMEDIES = {
    "features": (
        "Fine-tuning lost what the weights knew, or had too little time: try a lower "
        "optimizer.learning_rate, more epochs, or finetune=two_phase; finetune=linear_probe is "
        "about that floor"
    ),
    "words": (
        "The weights may be of another language or domain, or a rate too high or too few examples "
        "or epochs kept the run from learning: `kerasft probe` compares backbones"
    ),
}


@dataclass(frozen=True)
class Floor:
    """One figure to beat.

    Args:
        name: `"features"` or `"words"`.
        solved: The linear model, measured.
        examples: How many training examples it was fitted to.
    """

    name: str
    solved: Solved
    examples: int


@dataclass(frozen=True)
class Floors:
    """All that a run is held against.

    Args:
        found: Those that were computed.
        left_out: By name, why one was not.
        train: How many training examples there are.
    """

    found: tuple[Floor, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    train: int = 0


@dataclass(frozen=True)
class Comparison:
    """A run's figure beside that of a floor.

    Args:
        metric: The figure.
        split: Where it was measured, the test split where there is one.
        run: That of the run.
        floor: That of the floor.
        p_value: How likely a difference of this size is by chance alone, where the examples that
            are right tell (McNemar's test); else `None`.
    """

    metric: str
    split: str
    run: float
    floor: float
    p_value: float | None

    @property
    def beaten(self) -> bool:
        """Whether the run's figure is better."""
        better = self.run > self.floor
        return better if direction(self.metric) == "max" else self.run < self.floor


def compute(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, *, spare_test: bool = False
) -> Floors:
    """Compute what the run will be held against, with the backbone as it is before training.

    Nothing of it depends on what is in the cache, so that a run that goes on has the same floor.

    Args:
        cfg: The config.
        parts: The cheap parts.
        ready: The data.
        backbone: The backbone, which nothing has trained yet.
        spare_test: Whether the test split is not looked at.
    """
    if cfg.floor == "none" or not isinstance(ready.task, Solvable):
        return Floors()
    return _computed(cfg, parts, ready, backbone, spare_test)


@status.showing("computing the floor ...")
def _computed(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone, spare_test: bool
) -> Floors:
    splits = ready.splits
    wanted = {n: p for n, p in splits.parts.items() if not (spare_test and n == "test")}
    annotations = {name: part.annotations for name, part in wanted.items()}
    units = int(ready.task.head(splits.labels)["units"])
    found: list[Floor] = []
    left_out: dict[str, str] = {}
    if why := _against_features(cfg, parts, ready, list(wanted)):
        left_out["features"] = why
    else:
        try:
            found.append(_of_features(cfg, parts, ready, backbone, annotations, units))
        except UserError as error:  # it is no reason to end a run that may go well
            left_out["features"] = " ".join(error.problems)
    if splits.train.modality == "text":
        most = MOST_WEIGHTS // units
        if most < FEWEST_WORDS:
            left_out["words"] = f"with {units:,} classes, counts of words would take too long"
        else:
            rows = _rows(ready, MOST, cfg.seed)
            found.append(_of_words(cfg, ready, annotations, rows, most))
    return Floors(tuple(found), left_out, len(splits.train))


def _rows(ready: Ready, most: int, seed: int) -> np.ndarray:
    targets = ready.task.targets(ready.splits.train.annotations, ready.splits.labels)
    return sample(targets["labels"], most, seed)


def _of_words(
    cfg: DictConfig, ready: Ready, annotations: dict[str, Rows], rows: np.ndarray, most: int
) -> Floor:
    from kerasft.data.word_counts import WordCounts

    parts = ready.splits.parts
    texts = {name: parts[name].inputs for name in annotations}
    texts["train"] = [texts["train"][i] for i in rows]
    counts = WordCounts(texts["train"], most)
    features = {name: counts(one) for name, one in texts.items()}
    learned = annotations | {"train": annotations["train"].take(rows)}
    solved = solving.solve(ready.task, ready.splits.labels, features, learned, seed=cfg.seed)
    return Floor("words", solved, len(rows))


def _of_features(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone,
    annotations: dict[str, Rows], units: int,
) -> Floor:
    import keras

    from kerasft.model.fast import at_rest
    from kerasft.training.recipe import planned

    vector = solving.pooled(backbone, solving.pooling_of(plain(cfg.head)))
    model = keras.Model(backbone.network.input, vector)
    most = int(min(MOST, MOST_WORK / (units * vector.shape[-1])))
    rows = _rows(ready, most, cfg.seed)
    if len(rows) < min(FEWEST * units, len(ready.splits.train)):
        raise UserError(f"with {units:,} outputs, logistic regression would take too long")
    stores = {name: ready.stores[name] for name in annotations}
    stores["train"] = solving.part_of(stores["train"], rows)
    steps, epochs = planned(parts.stages, ready.batches.steps, cfg.max_steps)
    # As training computes them, so that a stage of the head may take them as they are.
    with at_rest(model, steps=steps * sum(epochs.values())) if cfg.fast else nullcontext():
        found = solving.compute(
            model, stores, parts.cache, batch_size=eval_batch_size(cfg), about=cfg.name
        )
    features = {name: outputs["cut_0"] for name, outputs in found.items()}
    learned = annotations | {"train": annotations["train"].take(rows)}
    solved = solving.solve(ready.task, ready.splits.labels, features, learned, seed=cfg.seed)
    return Floor("features", solved, len(rows))


def _against_features(
    cfg: DictConfig, parts: Parts, ready: Ready, wanted: list[str]
) -> str:
    """Say why features are not computed, or `""`; the same whenever the run is taken up."""
    counts = {name: len(part) for name, part in ready.splits.parts.items()}
    if cfg.floor == "always":
        return ""
    passes, run = _passes(cfg, parts, ready, {name: counts[name] for name in wanted})
    if passes <= SHARE * run:
        return ""
    return (
        f"computing them would take about {passes / run:.0%} of what the run takes; floor=always "
        "does so all the same"
    )


def _passes(
    cfg: DictConfig, parts: Parts, ready: Ready, counts: Mapping[str, int]
) -> tuple[float, float]:
    """Return what features and the run take, in forward passes of one example.

    A training step counts as three passes where all of the network trains.
    """
    from kerasft.training.recipe import planned

    train, validation = counts["train"], counts["validation"]
    _, epochs = planned(parts.stages, ready.batches.steps, cfg.max_steps)
    passes = float(min(train, MOST) + sum(n for name, n in counts.items() if name != "train"))
    run = float(sum(n for name, n in counts.items() if name != "train"))
    kept = False
    for name, stage in parts.stages.items():
        trains = stage.train if isinstance(stage.train, int | float) else float(
            stage.train != "head")  # fmt: skip
        every = epochs[name] * (train * (1 + 2 * trains) + validation)
        if trains == 0 and parts.cache.activations != "never":
            views = min(parts.cache.views, epochs[name]) if parts.augment else 1
            every = min(every, float(views * train + validation))
            kept = kept or solving.pooling_of(plain(cfg.head), learned="") != ""
        run += every
    if kept:  # that stage computes them anyway
        passes -= validation + (train if not parts.augment and train <= MOST else 0)
    return passes, run


def compare(floor: Floor, task: Task, measured: Measured) -> Comparison | None:
    """Hold a run's figure against that of a floor, on the test split where both have one.

    `None` where these examples have no figure that the task is judged by.
    """
    split = "test" if "test" in measured.metrics and "test" in floor.solved.statistics else \
        "validation"
    figures, floors = measured.metrics[split], floor.solved.figures(split)
    metric = solving.headline(task, {n: v for n, v in figures.items() if n in floors})
    if not metric:
        return None
    pair = [
        right(one, floor.solved.labels, metric, statistics)
        for one, statistics in (
            (task, measured.statistics[split]), (floor.solved.task, floor.solved.statistics[split])
        )
    ]
    chance = None if pair[0] is None or pair[1] is None else mcnemar(pair[0], pair[1])
    return Comparison(metric, split, float(figures[metric]), float(floors[metric]), chance)


def tell(
    floors: Floors, task: Task, measured: Measured, folder: run_folder.RunFolder
) -> dict[str, Any] | None:
    """Say what the run was held against, warn where it did not beat it, and write `floor.json`.

    Args:
        floors: What `compute` found.
        task: The run's task.
        measured: The run's figures.
        folder: The run folder.

    Returns:
        What was written; `None` where there was nothing to be held against.
    """
    if not floors.found:
        return None
    written: dict[str, Any] = {n: {"left_out": why} for n, why in floors.left_out.items()}
    for floor in floors.found:
        if (found := compare(floor, task, measured)) is None:
            continue
        title = f"{floor.solved.linear.model} on {TITLES[floor.name]}"
        of = "" if floor.examples == floors.train else \
            f", of {floor.examples:,} of {floors.train:,} training examples"
        chance = found.p_value
        unsure = chance is not None and chance > 0.05 and found.beaten
        say(
            f"floor: {title}{of}: {found.metric} {found.floor:.4f} on {found.split}, this run "
            f"{found.run:.4f}" + (f" (too close to tell, p = {chance:.2f})" if unsure else "")
        )
        if not found.beaten:
            warn(
                f"this run did not beat {title}: {found.metric} {found.run:.4f} against "
                f"{found.floor:.4f} on {found.split}. {REMEDIES[floor.name]}."
            )
        splits = {one: floor.solved.figures(one) for one in floor.solved.statistics}
        written[floor.name] = {
            "metric": found.metric, "split": found.split, "run": found.run, "floor": found.floor,
            "beaten": found.beaten, "p_value": chance, "examples": floor.examples,
            "strength": floor.solved.linear.strength, **splits,
        }
    write_json(folder.path / "floor.json", written)
    return written
