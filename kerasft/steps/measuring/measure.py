"""After training: tunes decisions, measures splits, writes predictions, draws plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from kerasft.contracts import Task
from kerasft.data.annotations.plain import each_plain
from kerasft.rows import Rows
from kerasft.runs import evidence, records, run_folder
from kerasft.runs.finetuned import FineTuned, eval_batch_size
from kerasft.steps.measuring import drawing, samples, slicing
from kerasft.steps.measuring.slicing import by_slices
from kerasft.steps.preparing.prepare import Ready
from kerasft.system.console import say, table, warn
from kerasft.system.files import write_json
from kerasft.system.terminal import status

if TYPE_CHECKING:
    import keras

    from kerasft.training import loop


@dataclass(frozen=True)
class Measured:
    """Figures by split, and what they were computed from."""

    metrics: dict[str, dict[str, Any]]
    statistics: dict[str, dict[str, np.ndarray]]


@status.showing("measuring validation ...")
def finalize(
    cfg: DictConfig, ready: Ready, model: keras.Model, folder: run_folder.RunFolder | None
) -> tuple[FineTuned, dict[str, Rows]]:
    """Tune the task's decisions on validation and keep all that using the model needs.

    Returns:
        The fine-tuned model, and what was kept of the examples that it was tuned on, by split.
    """
    from kerasft.model.precision import in_float32

    labels, model = ready.splits.labels, in_float32(model)
    made = FineTuned(model, ready.preprocess, ready.task, labels, eval_batch_size(cfg))
    part = ready.splits.validation
    kept = made.measure(ready.stores["validation"], made.targets(part.annotations)).rows
    made = made.tuned(part.annotations, kept)
    if folder is not None:
        made.save(folder)
    return made, {"validation": kept}


@status.showing("measuring the test split ...")
def measure(
    finetuned: FineTuned, ready: Ready, known: Mapping[str, Rows],
    folder: run_folder.RunFolder | None, *, spare_test: bool = False,
) -> Measured:
    """Measure validation and test; the test split is looked at here and only here.

    Args:
        finetuned: The fine-tuned model.
        ready: The data.
        known: What was kept of splits that the network need not go through again.
        folder: Where figures and predictions are written, if anywhere.
        spare_test: Whether the test split is not looked at.

    Returns:
        Figures by split, and what they were computed from.
    """
    found, all_kept = Measured({}, {}), {}
    for name in ("validation", "test"):
        part = ready.splits.parts.get(name)
        if part is None or (spare_test and name == "test"):
            continue
        kept = known.get(name)
        if kept is None:
            targets = finetuned.targets(part.annotations)
            kept = finetuned.measure(ready.stores[name], targets).rows
        all_kept[name] = kept
        statistics = found.statistics[name] = finetuned.statistics(part.annotations, kept)
        figures = found.metrics[name] = finetuned.task.figures(statistics, finetuned.labels)
        if folder is not None:
            figures |= by_slices(finetuned, part, ready.splits.slices, statistics, figures)
            pieces = finetuned.each_answer(ready.stores[name], kept, inputs=part.inputs)
            records.write(
                folder.path / "predictions", name, part.ids, each_plain(part, finetuned.labels),
                records.of_pieces(pieces, finetuned.labels.names, finetuned.rules),
                records.shown_inputs(part), slicing.of_each(part, ready.splits.slices),
            )
    if folder is not None:
        evidence.keep(folder, ready.splits, ready.held_out, all_kept)
        write_json(folder.metrics, found.metrics)
    return found


@status.showing("drawing plots ...")
def draw(
    history: loop.History, finetuned: FineTuned, ready: Ready, measured: Measured,
    folder: run_folder.RunFolder, *, plots: bool,
) -> None:  # fmt: skip
    """Draw the learning curves and what was confused with what; have samples written.

    Args:
        history: What training went through.
        finetuned: The fine-tuned model.
        ready: The data.
        measured: The figures, and what they were computed from.
        folder: The run folder.
        plots: Whether to draw; lists and samples are written all the same.
    """
    if plots:
        from kerasft.evaluation.plots import learning_curves

        folder.plots.mkdir(exist_ok=True)
        task, file = finetuned.task, folder.plots / "learning_curves.png"
        learning_curves(history.rows, file, monitor=task.monitor, mode=task.mode)
    for split, statistics in measured.statistics.items():
        part = ready.splits.parts[split]
        if plots:
            finetuned.task.draw(statistics, finetuned.labels, folder.plots, split=split)
        drawing.draw(part, finetuned, statistics, folder, split, plots=plots)
    figures = measured.metrics["validation"]
    if samples.add(finetuned, ready.splits.validation, figures, file=folder.samples):
        write_json(folder.metrics, measured.metrics)


def report(
    history: loop.History, task: Task, metrics: Mapping[str, Any],
    baseline: Mapping[str, Any] | None, folder: run_folder.RunFolder, diagnosis: str,
    tell_floor: Callable[[], Any],
) -> Any:
    """Say what came out: the figures, signs of overfitting, and where everything lies.

    Returns:
        What `tell_floor` returned, which says what the figures are held against.
    """
    import keras

    from kerasft.evaluation.overfitting import overfitting

    if notice := overfitting(history.rows, history.best_epoch):
        warn(notice)
    say("\n" + closing_table(task.headlines, metrics, baseline))
    policy = keras.config.dtype_policy().name
    if note := other_than_shown(history, task.monitor, metrics, policy):
        say(note)
    slicing.tell(task, metrics, say, str(folder.metrics))
    held = tell_floor()
    if diagnosis:
        say(f"\n{diagnosis}")
    say(f"\nrun folder: {folder.path}")
    return held


def other_than_shown(
    history: loop.History, monitor: str, metrics: Mapping[str, Any], policy: str
) -> str:
    """Say why figures of the closing table are other ones than those of the best epoch's line.

    Args:
        history: What training went through.
        monitor: The figure that chose the best epoch.
        metrics: The figures of the table, by split.
        policy: The dtype policy that epochs computed with; the table is measured in float32.

    Returns:
        A sentence; `""` where they agree.
    """
    name = monitor.removeprefix("val_")
    now = metrics.get("validation", {}).get(name)
    then, shown = f"{history.kept_value:.4f}", ""
    if now is not None and f"{now:.4f}" != then:
        whose = f"epoch {history.best_epoch}" if history.soup is None else "the soup"
        shown = f"{monitor} of {whose} was {then}, and is {now:.4f} here"
    if policy != "float32":
        return (
            f"measured in float32, as answers and exports are; the epochs were in {policy}"
            + (f": {shown}" if shown else "")
        )
    return f"{shown}: they agree up to rounding" if shown else ""


def closing_table(
    headlines: Sequence[str], metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> str:
    """Return the main figures as a table, with what fine-tuning gained where that was measured."""
    first = next(iter(metrics.values()))
    names = [name for name in headlines if name in first]
    header = ["", *(f"{split} {n}" for split in metrics for n in names)]

    def row(title: str, values: Mapping[str, Any]) -> list[Any]:
        return [title, *(values[split].get(n) for split in metrics for n in names)]

    rows = [row("fine-tuned", metrics)]
    if baseline:
        rows.append(row("from scratch", baseline))
        rows.append(["gain", *(
            a - b if a is not None and b is not None else None
            for a, b in zip(rows[0][1:], rows[1][1:], strict=True)
        )])
    if len(rows) == 1:
        return table(
            [[n, *(metrics[s].get(n) for s in metrics)] for n in names], ["", *metrics]
        )
    flipped = [[header[i], *(r[i] for r in rows)] for i in range(1, len(header))]
    return table(flipped, ["", *(r[0] for r in rows)])
