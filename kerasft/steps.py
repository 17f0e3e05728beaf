"""The steps that the acts in `run.py` are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kerasft import config, record
from kerasft.checks import check
from kerasft.config import build, build_named
from kerasft.console import say, table, warn
from kerasft.errors import UserError
from kerasft.files import write_json, written_whole
from kerasft.finetuned import FineTuned, eval_batch_size
from kerasft.spec import Backbone, Splits

# How many held-out examples an export is proved on.
PROOF = 16


@dataclass(frozen=True)
class Parts:
    """What can be built before any data is read or any weight is loaded."""

    task: Any
    stages: Mapping[str, Any]
    augment: Mapping[str, Any]


@dataclass(frozen=True)
class Ready:
    """Data and targets as training takes them."""

    splits: Splits
    task: Any
    preprocess: Any
    stores: Mapping[str, Any]
    batches: Any


@dataclass(frozen=True)
class Measured:
    """Figures and outputs by split."""

    metrics: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, np.ndarray]]


# --- before training ---------------------------------------------------------------------------


@contextmanager
def surroundings(cfg: DictConfig) -> Iterator[None]:
    """Set seeds, precision and determinism for a run, and put precision back afterwards."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(cfg.seed % 2**32)
    # The same run twice gives the same figures; measured, it costs nothing on a processor.
    tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(cfg.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def cheap_parts(cfg: DictConfig) -> Parts:
    """Build what costs nothing: a typo in an optimizer must not cost a download."""
    parts = Parts(
        task=build(cfg.task),
        stages=build_named(cfg.finetune),
        augment=build_named(cfg.augment),
    )
    for stage in parts.stages.values():
        make_optimizer(cfg)(make_schedule(cfg)(stage.learning_rate(set_rate(cfg), 1e-4), 100))
    return parts


def set_rate(cfg: DictConfig) -> float | None:
    """Return the rate that the user set, or `None`."""
    return cfg.optimizer.get("learning_rate")


def make_optimizer(cfg: DictConfig) -> Callable[[Any], Any]:
    """Return a function from a schedule to the config's optimizer."""
    node = cfg.optimizer.copy()
    node.learning_rate = None
    node._set_parent(cfg)
    return lambda rate: build(node, learning_rate=rate)


def make_schedule(cfg: DictConfig) -> Callable[[float, int], Any]:
    """Return a function from a peak rate and a number of steps to the config's schedule."""
    return lambda peak, total: build(cfg.schedule, learning_rate=peak, total_steps=total)


def read_data(cfg: DictConfig, parts: Parts, folder: record.RunFolder) -> Splits:
    """Read the examples, say what they are, and write the manifest."""
    from kerasft.data.manifest import write_manifest

    splits = build(cfg.data, kind=parts.task.kind, seed=cfg.seed)
    for notice in splits.notices:
        warn(notice)
    say(f"data: {describe(splits)}")
    if cfg.batch_size > len(splits.train):
        raise UserError(
            f"batch_size must not be larger than the training split, which has "
            f"{len(splits.train)} examples. Received: {cfg.batch_size}."
        )
    if cfg.augment and splits.train.modality != "images":
        names = [name for name, node in cfg.augment.items() if node]
        raise UserError(
            f"augment.{names[0]} changes pictures, but the data is text. Set augment=none."
        )
    write_manifest(splits, folder.manifest)
    return splits


def describe(splits: Splits) -> str:
    """Return a line on the sizes of the splits and their labels."""
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in splits.parts.items())
    names = splits.labels.names
    if not names:
        return f"{sizes}; a number each"
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{sizes}; {len(names)} classes ({shown})"


def load_backbone(cfg: DictConfig, splits: Splits, *, pretrained: bool = True) -> Backbone:
    """Load the backbone and see that it and the data speak of the same thing."""
    import dataclasses

    # None where pretrained: the node's own default, or what the user set, holds.
    backbone = build(cfg.backbone, **({} if pretrained else {"pretrained": False}))
    has, wants = splits.train.modality, backbone.preprocess.modality
    if has != wants:
        word = {"text": "text", "images": "pictures"}
        raise UserError(
            f"The data is {word[has]}, but the backbone {backbone.name} takes {word[wants]}. "
            f"Choose a backbone for {word[has]} (backbone.preset=...; `kerasft models` lists them) "
            "or other data."
        )
    if has == "text":
        pair = isinstance(splits.train.inputs[0], tuple)
        backbone = dataclasses.replace(backbone, preprocess=backbone.preprocess.paired(pair))
    return backbone


def make_ready(cfg: DictConfig, parts: Parts, splits: Splits, backbone: Backbone) -> Ready:
    """Tokenize or decode everything once, and make the training batches."""
    from kerasft.data import augment, order, pipeline, store

    task = parts.task.adapt(splits.train.labels)
    stores = {
        name: store.prepare(part, backbone.preprocess) for name, part in splits.parts.items()
    }
    train = stores["train"]
    batches = pipeline.Batches(
        train,
        task.encode(splits.train.labels, splits.labels),
        weights=task.example_weights(splits.train.labels, splits.labels),
        order=order.Order(
            len(train), cfg.batch_size, seed=cfg.seed,
            lengths=train.lengths if cfg.length_grouping else None,
        ),
        augment=parts.augment and augment.augmenter(
            parts.augment, seed=cfg.seed,
            size=(backbone.preprocess.height, backbone.preprocess.width),
        ) or None,
    )
    return Ready(splits, task, backbone.preprocess, stores, batches)


# --- training ----------------------------------------------------------------------------------


def fit(
    cfg: DictConfig, parts: Parts, ready: Ready, backbone: Backbone,
    folder: record.RunFolder | None, *, quiet: bool = False,
) -> tuple[Any, Any]:
    """Put the head on, regularize, and train stage by stage."""
    import sys

    from kerasft.model.assemble import assemble
    from kerasft.training import loop

    units = ready.task.units(ready.splits.labels)
    model = assemble(backbone, lambda features: build(cfg.head, features=features, units=units))
    for node in (cfg.regularize or {}).values():
        if node:
            model = build(node, model=model)
    batch_size = eval_batch_size(cfg)
    tty = sys.stdout.isatty() if cfg.progress is None else cfg.progress

    def validate(network: Any) -> dict[str, float]:
        now = FineTuned(network, ready.preprocess, ready.task, ready.splits.labels, batch_size)
        return validation_figures(now, ready)

    def callbacks() -> dict[str, Any]:
        if folder is None:
            return {}
        return build_named(
            cfg.callbacks, monitor=ready.task.monitor, mode=ready.task.mode,
            output_dir=str(folder.path),
        )

    history = loop.fit(
        model, ready.batches,
        stages=parts.stages, task=ready.task, validate=validate,
        optimizer=make_optimizer(cfg), schedule=make_schedule(cfg),
        learning_rate=set_rate(cfg), usual_rate=backbone.learning_rate,
        pretrained=backbone.pretrained, callbacks=callbacks,
        output_dir=folder and folder.path, max_steps=cfg.max_steps,
        progress=tty and not quiet, say=(lambda line: None) if quiet else say,
        on_stage=None if quiet else announce,
    )
    if not quiet:
        say(
            f"best epoch: {history.best_epoch} [{history.best_stage}], {ready.task.monitor} "
            f"{history.best_value:.4f}; its weights are back"
            + (f" (stopped early: {', '.join(history.stopped_early)})"
               if history.stopped_early else "")
        )
    return model, history


def announce(
    name: str, stage: Any, peak: float, steps: int, rows: list[tuple[str, int, int]]
) -> None:
    """Say before the first step of a stage what trains, and how fast."""
    total, trains = sum(r[1] for r in rows), sum(r[2] for r in rows)
    say(f"\nstage {name}: {steps:,} steps, learning rate up to {peak:g}, "
        f"{trains:,} of {total:,} weights train")
    shown = [(part, count, training, f"{training / count:.0%}" if count else "-")
             for part, count, training in rows if count]
    if len(shown) > 12:
        rest = shown[6:-5]
        count, training = sum(r[1] for r in rest), sum(r[2] for r in rest)
        shown = [*shown[:6], (f"({len(rest)} more parts)", count, training,
                              f"{training / max(count, 1):.0%}"), *shown[-5:]]
    say(table(shown, ["part", "weights", "train", "share"]))


def validation_figures(finetuned: FineTuned, ready: Ready) -> dict[str, float]:
    """Return loss and scalar metrics of the validation split."""
    part = ready.splits.validation
    logits = finetuned.logits(ready.stores["validation"])
    targets = finetuned.task.encode(part.labels, finetuned.labels)
    figures = {"loss": float(finetuned.task.loss()(targets, logits))}
    outputs = finetuned.answers(logits)
    task = finetuned.task.tune(part.labels, outputs)
    if task is not finetuned.task:
        outputs = FineTuned(None, None, task, finetuned.labels).answers(logits)
    return figures | scalars(task.score(part.labels, outputs, finetuned.labels))


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}


# --- after training ----------------------------------------------------------------------------


def finish(
    cfg: DictConfig, parts: Parts, ready: Ready, model: Any, folder: record.RunFolder | None
) -> FineTuned:
    """Tune the task's decisions on validation and keep all that using the model needs."""
    labels = ready.splits.labels
    made = FineTuned(model, ready.preprocess, ready.task, labels, eval_batch_size(cfg))
    outputs = made.outputs(ready.stores["validation"])
    task = ready.task.tune(ready.splits.validation.labels, outputs)
    made = FineTuned(model, ready.preprocess, task, labels, eval_batch_size(cfg))
    if folder is not None:
        made.save(folder)
    return made


def measure(finetuned: FineTuned, ready: Ready, folder: record.RunFolder | None) -> Measured:
    """Measure validation and test; the test split is looked at here and only here."""
    found = Measured({}, {})
    for name in ("validation", "test"):
        part = ready.splits.parts.get(name)
        if part is None:
            continue
        outputs = found.outputs[name] = finetuned.outputs(ready.stores[name])
        found.metrics[name] = score(finetuned, part, outputs)
        if folder is not None:
            write_predictions(folder.path / "predictions" / f"{name}.csv", part, outputs, finetuned)
    if folder is not None:
        write_json(folder.metrics, found.metrics)
    return found


def score(finetuned: FineTuned, part: Any, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's metrics, for single classes with the confusion matrix."""
    from kerasft.evaluation.metrics import confusion

    found = finetuned.task.score(part.labels, outputs, finetuned.labels)
    if finetuned.labels.kind == "single":
        predicted = np.argmax(outputs["probabilities"], axis=-1)
        found["confusion_matrix"] = confusion(
            part.labels, predicted, finetuned.labels.names
        ).tolist()
    return found


def write_predictions(path: Path, part: Any, outputs: Mapping[str, Any], made: FineTuned) -> None:
    """Write what was predicted for each example beside its label."""
    import csv

    names = made.labels.names
    shown = [n for n in ("label", "score", "value") if n in outputs]
    with written_whole(path) as file, open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "true", *(f"predicted_{n}" for n in shown)])
        for i, name in enumerate(part.ids):
            label = part.labels[i]
            if made.labels.kind == "single":
                true: Any = names[int(label)]
            elif made.labels.kind == "multi":
                true = ",".join(n for n, on in zip(names, label, strict=True) if on)
            else:
                true = float(label)
            writer.writerow([name, true, *(plain(outputs[n][i]) for n in shown)])


def plain(value: Any) -> Any:
    """Return a numpy value as a plain one, bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if hasattr(value, "item") else value


def draw(
    history: Any, finetuned: FineTuned, ready: Ready, measured: Measured, folder: record.RunFolder
) -> None:
    """Draw the learning curves and what was confused with what."""
    from kerasft.evaluation import plots

    folder.plots.mkdir(exist_ok=True)
    task = finetuned.task
    plots.learning_curves(
        history.rows, folder.plots / "learning_curves.png", monitor=task.monitor, mode=task.mode
    )
    for split, outputs in measured.outputs.items():
        y = ready.splits.parts[split].labels
        task.draw(y, outputs, finetuned.labels, folder.plots, split=split)


def train_baseline(
    cfg: DictConfig, parts: Parts, ready: Ready, splits: Splits, folder: record.RunFolder
) -> dict[str, dict[str, Any]] | None:
    """Train the same network from random weights on the same data, for as many epochs."""
    if cfg.baseline is None:
        return None
    import keras

    from kerasft.training.stages import Stage

    say("\nbaseline: the same network from random weights ...")
    keras.utils.set_random_seed(cfg.seed % 2**32)
    backbone = load_backbone(cfg, splits, pretrained=False)
    epochs = sum(stage.epochs for stage in parts.stages.values())
    scratch = Parts(parts.task, {"scratch": Stage("all", epochs=epochs)}, parts.augment)
    model, _ = fit(cfg, scratch, ready, backbone, None, quiet=True)
    metrics = measure(finish(cfg, scratch, ready, model, None), ready, None).metrics
    write_json(folder.path / "baseline.json", metrics)
    return metrics


def close(
    history: Any, metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None,
    folder: record.RunFolder,
) -> None:
    """Say what came out: the figures, signs of overfitting, and where everything lies."""
    from kerasft.evaluation.overfitting import overfitting

    if notice := overfitting(history.rows, history.best_epoch):
        warn(notice)
    say("\n" + closing_table(metrics, baseline))
    say(f"\nrun folder: {folder.path}")


HEADLINES = ("accuracy", "f1_macro", "f1_micro", "roc_auc", "subset_accuracy",
             "pearson", "spearman", "mae", "r2")


def closing_table(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """Return the main figures as a table, with what fine-tuning gained where that was measured."""
    first = next(iter(metrics.values()))
    names = [n for n in HEADLINES if n in first]
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


# --- a finished run ----------------------------------------------------------------------------


def reopen(run: str) -> tuple[record.RunFolder, FineTuned, DictConfig]:
    """Load a run folder with its model and config."""
    from kerasft import finetuned

    folder = record.open_run(run)
    return folder, finetuned.load(run), folder.read_config()


def read_data_again(cfg: DictConfig, folder: record.RunFolder, tell: Callable[[str], None]) -> Splits:
    """Read a run's data anew and warn where it is no longer what the run saw."""
    from kerasft.data.manifest import diff_manifest, read_manifest

    splits = build(cfg.data, kind=build(cfg.task).kind, seed=cfg.seed)
    if folder.manifest.is_file():
        for difference in diff_manifest(read_manifest(folder.manifest), splits):
            warn(f"the data has changed since the run: {difference}")
    return splits


def measure_splits(
    finetuned: FineTuned, splits: Splits, split: str | None, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Measure the splits asked for, and say the figures."""
    from kerasft.data import store

    allowed = list(splits.parts)
    if split is not None and split not in allowed:
        raise UserError(f"split must be one of {', '.join(allowed)}. Received: {split!r}.")
    metrics = {}
    for name in [split] if split else [n for n in allowed if n != "train"]:
        part = splits.parts[name]
        outputs = finetuned.outputs(store.prepare(part, finetuned.preprocess))
        metrics[name] = score(finetuned, part, outputs)
    tell(closing_table(metrics, None))
    return metrics


def export_node(overrides: Sequence[str]) -> DictConfig:
    """Compose the `export` group alone; a SavedModel where nothing is chosen."""
    chosen = list(overrides)
    if not any(o.startswith("export=") for o in chosen):
        chosen.insert(0, "export=saved_model")
    foreign = [o for o in chosen if not o.lstrip("+~").startswith("export")]
    if foreign:
        raise UserError(
            f"`kerasft export` takes overrides of the export group alone. Received: {foreign[0]!r}."
        )
    cfg = config.compose(chosen)
    check(cfg)
    return cfg.export


def export(
    node: DictConfig, finetuned: FineTuned, splits: Splits, directory: Path, name: str
) -> dict[str, Path]:
    """Write each export of the config, proved on held-out raw examples."""
    from kerasft.data.store import read_raw

    made: dict[str, Path] = {}
    held_out = splits.test if splits.test is not None else splits.validation
    for key, one in (node or {}).items():
        if not one:
            continue
        say(f"export {key} ...")
        made[key] = build(
            one, model=finetuned.model, directory=str(directory / key),
            preprocess=finetuned.preprocess, task=finetuned.task, labels=finetuned.labels,
            examples=read_raw(held_out, PROOF), name=name,
        )
        say(f"exported {key}: {made[key]}")
        parity = made[key] / "assets.extra" / "parity.json"
        if parity.is_file():
            found = json.loads(parity.read_text())
            say(f"proved in a fresh process: {summary(found)}")
    return made


def summary(parity: Mapping[str, Any]) -> str:
    """Return a line on what the parity check found."""
    keys = ("examples", "largest_difference", "label_flips", "tolerance")
    return ", ".join(f"{k.replace('_', ' ')} {parity[k]}" for k in keys if k in parity)


def open_predictor(path: str) -> tuple[Callable[[Sequence[Any]], dict[str, np.ndarray]], Any]:
    """Return what answers raw input, and the labels, of a run folder or an export."""
    place = Path(path).expanduser()
    if (place / "config.yaml").is_file() and not (place / "saved_model.pb").is_file():
        _, finetuned, _ = reopen(path)
        return finetuned, finetuned.labels.names
    from kerasft.exporters.loading import load_export

    predictor = load_export(path)
    return predictor, tuple(predictor.signature.get("labels", ()))


def answers(
    outputs: Mapping[str, np.ndarray], inputs: Sequence[Any], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the outputs as one readable dict an input."""
    rows = []
    for i, given in enumerate(inputs):
        shown = f"<{len(given)} bytes>" if isinstance(given, bytes) else given
        row: dict[str, Any] = {"input": shown}
        for name, values in outputs.items():
            value = values[i]
            if name == "probabilities":
                row[name] = dict(zip(labels, (float(v) for v in value), strict=True))
            elif getattr(value, "ndim", 0):
                row[name] = [label for label, on in zip(labels, value, strict=True) if on]
            else:
                row[name] = plain(value)
        rows.append(row)
    return rows
