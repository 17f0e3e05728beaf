"""A finished run: opened again, measured again, answering raw input, exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kerasft.artifact.layout import EXTRA, PARITY, SIGNATURE, WEIGHTS
from kerasft.config import composition
from kerasft.config.checks import check
from kerasft.config.composition import build
from kerasft.errors import Unreadable, UserError
from kerasft.raw_input import as_raw
from kerasft.runs import evidence, run_folder
from kerasft.runs.finetuned import FineTuned
from kerasft.spec import Splits
from kerasft.steps.measure import closing_table, plain
from kerasft.steps.prepare import read_splits
from kerasft.system.console import say, warn
from kerasft.system.enclosure import require_enclosed
from kerasft.system.files import at_home, read_json
from kerasft.system.recorded import read_figures


def reopen(
    run: str, trusted: Sequence[str] = ()
) -> tuple[run_folder.RunFolder, FineTuned, DictConfig]:
    """Load a run folder with its model and config, to write to it.

    The config is checked as when it was composed: a run folder may come from anywhere.
    """
    from kerasft.runs import finetuned

    folder = run_folder.open_run(run)
    require_enclosed(folder.path)
    cfg = folder.read_config()
    with folder.at_its_command():
        check(cfg, trusted=trusted)
    return folder, finetuned.load(run, trusted=trusted), cfg


def read_data_again(cfg: DictConfig, folder: run_folder.RunFolder) -> Splits:
    """Read a run's data anew and warn where it is no longer what the run saw."""
    splits, differences = read_splits(cfg, build(cfg.task).kind, folder.manifest)
    for difference in differences:
        warn(f"the data has changed since the run: {difference}")
    return splits


def measure_splits(
    cfg: DictConfig, finetuned: FineTuned, splits: Splits, split: str | None,
    tell: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Measure the splits asked for, and say the figures."""
    from kerasft.data.preprocessing import prepare_splits

    allowed = list(splits.parts)
    if split is not None and split not in allowed:
        raise UserError(f"split must be one of {', '.join(allowed)}. Received: {split!r}.")
    metrics = {}
    wanted = [split] if split else [n for n in allowed if n != "train"]
    stores = prepare_splits(splits.parts, finetuned.preprocess, build(cfg.cache), wanted)
    for name in wanted:
        part = splits.parts[name]
        kept = finetuned.measure(stores[name], finetuned.targets(part.annotations)).rows
        metrics[name] = finetuned.figures(part.annotations, kept)
    tell(closing_table(finetuned.task.headlines, metrics, None))
    return metrics


def export_node(overrides: Sequence[str], trusted: Sequence[str] = ()) -> DictConfig:
    """Compose the `export` group alone; a SavedModel where nothing is chosen."""
    chosen = list(overrides)
    if not any(o.startswith("export=") for o in chosen):
        chosen.insert(0, "export=saved_model")
    foreign = [o for o in chosen if not o.lstrip("+~").startswith("export")]
    if foreign:
        raise UserError(
            f"`kerasft export` takes overrides of the export group alone. Received: {foreign[0]!r}."
        )
    cfg = composition.compose(chosen)
    check(cfg, trusted=trusted)
    return cfg.export


def export(
    node: DictConfig, finetuned: FineTuned, folder: run_folder.RunFolder, name: str
) -> dict[str, Path]:
    """Write each export of the config, proved on what the run kept of its held-out examples."""
    made: dict[str, Path] = {}
    wanted = {key: one for key, one in (node or {}).items() if one}
    if not wanted:
        return made
    if (precision := getattr(finetuned.task, "served_precision", None)) and (said := precision()):
        warn(said)
    from kerasft.model.fast import at_rest

    kept, facts = evidence.read(folder), about(folder)
    further = {"at_rest": at_rest} if folder.read_config().fast else {}
    for key, one in wanted.items():
        say(f"export {key} ...")
        made[key] = build(
            one, model=finetuned.model, directory=str(folder.path / "exports" / key),
            preprocess=finetuned.preprocess, task=finetuned.task, labels=finetuned.labels,
            evidence=kept, examples=as_raw(kept.examples.inputs, kept.examples.modality),
            about=facts, name=name, **further,
        )
        say(f"exported {key}: {made[key]}")
        for place, how in ((made[key] / EXTRA, " in a fresh process"), (made[key], "")):
            if (parity := place / PARITY).is_file():
                say(f"proved{how}: {summary(read_json(parity))}")
        if (weights := made[key] / EXTRA / WEIGHTS).is_file():
            say(_of_weights(read_json(weights), finetuned.task))
        if (described := made[key] / EXTRA / SIGNATURE).is_file():
            _say_decided(read_json(described), finetuned.task)
    return made


def _of_weights(report: Mapping[str, Any], task: Any) -> str:
    """Return a line on what fewer bits for the weights changed."""
    sizes, metrics = report["sizes"], report.get("metrics", {"before": {}, "after": {}})
    worst = max(report["largest_difference"].values(), default=0.0)
    said = (
        f"weights in {report['weights']}: {sizes['after'] / 1e6:.3g} MB of "
        f"{sizes['before'] / 1e6:.3g}; largest difference {worst:.2g}, {report['label_flips']} "
        "other labels"
    )
    name = task.monitor.removeprefix("val_")
    if name in metrics["before"] and name in metrics["after"]:
        said += f"; {name} {metrics['before'][name]:.4f} before, {metrics['after'][name]:.4f} after"
    return said


def _say_decided(signature: Mapping[str, Any], task: Any) -> None:
    """Say what tuned decisions did to the figure that the run was steered by."""
    if notice := signature["decision"]["validation"].get("notice"):
        warn(f"export: {notice}.")
    name = task.monitor.removeprefix("val_")
    one = signature["decision"]["validation"].get("figures", {}).get(name)
    if one:
        goal = signature["decision"].get("goal", "the temperature")
        say(f"decisions for {goal}: {name} {one['before']:.4f} as the run decided, "
            f"{one['after']:.4f} with them, on validation, where they were tuned")


def about(folder: run_folder.RunFolder) -> dict[str, Any]:
    """Return the facts of a run that the card of its model tells."""
    from kerasft.data.manifest import read_manifest

    facts = folder.facts()
    found: dict[str, Any] = {key: facts[key] for key in ("command", "started") if key in facts}
    found["metrics"] = read_figures(folder.metrics) if folder.metrics.is_file() else {}
    backbone = folder.read_config().backbone
    names = [str(backbone.get(key)) for key in ("name", "preset", "path") if backbone.get(key)]
    found["backbone"] = names[0] if names else str(backbone.get("_target_"))
    if folder.manifest.is_file():
        manifest = read_manifest(folder.manifest)
        found["data"] = {
            "source": manifest["source"],
            "examples": {split: len(rows) for split, rows in manifest["splits"].items()},
        }
    return found


def summary(parity: Mapping[str, Any]) -> str:
    """Return a line on what the parity check found."""
    signatures = parity.get("signatures")
    found = [parity] if signatures is None else signatures.values()
    worst = max((d for one in found for d in one["largest_difference"].values()), default=0.0)
    said = (
        f"{parity['examples']} examples"
        f"{'' if signatures is None else ' through ' + ', '.join(signatures)}; largest "
        f"difference {worst:.2g}, {sum(one['label_flips'] for one in found)} other labels"
    )
    if metric := parity.get("metric"):
        said += f"; {metric['name']} {metric['run']:.4f} in the run, {metric['export']:.4f} served"
    return said


def open_predictor(
    path: str, trusted: Sequence[str] = ()
) -> tuple[Callable[[Sequence[Any]], dict[str, np.ndarray]], Any]:
    """Return what answers raw input, and the labels, of a run folder or an export."""
    place = at_home(path)
    if (place / "config.yaml").is_file() and not (place / "saved_model.pb").is_file():
        _, finetuned, _ = reopen(path, trusted)
        return finetuned, finetuned.labels.names
    from kerasft.artifact.loading import load_export

    predictor = load_export(path)
    return predictor, tuple(predictor.signature.get("labels", ()))


def takes_pictures(answer: Any) -> bool:
    """Whether what `open_predictor` returned answers pictures, not texts."""
    own = getattr(answer, "preprocess", None)
    return (own.modality if own is not None else answer.signature["modality"]) == "images"


def check_texts(inputs: Sequence[Any]) -> None:
    """Refuse texts with half a character in them, which UTF-8 cannot write."""
    for number, one in enumerate(inputs):
        for text in one if isinstance(one, tuple | list) else (one,):
            if isinstance(text, str) and _is_halved(text):
                shown = text[:80].encode("ascii", "backslashreplace").decode()
                raise UserError(
                    f"Input {number} holds half a character (a lone surrogate), which UTF-8 cannot "
                    f"write. Received: {shown!r}."
                )


def _is_halved(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


def answer_sound(
    answer: Callable[[Sequence[Any]], dict[str, np.ndarray]], inputs: Sequence[Any],
    on_broken: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Answer the inputs, without the pictures that cannot be decoded.

    Args:
        answer: Answers raw input, and raises `Unreadable` where one of it cannot be read.
        inputs: Texts, pairs of texts, paths or bytes of pictures.
        on_broken: Told of each picture that is left out.

    Returns:
        The outputs, and the inputs that they belong to.

    Raises:
        UserError: If none can be answered, or for what is no matter of a picture.
    """
    try:
        # All at once: they are looked at one by one where this fails, and not before.
        return answer(inputs), list(inputs)
    except Unreadable as error:
        problems = _problems(inputs)
        told = [
            f"The picture {_name(one)!r} could not be decoded: {why}."
            for one, why in zip(inputs, problems, strict=True) if why
        ]  # fmt: skip
        sound = [one for one, why in zip(inputs, problems, strict=True) if not why]
        if not sound:
            raise Unreadable(problems=_first(told)) from error
        if len(inputs) == 1:
            raise
        # What decodes here, and not there, is found by halves.
        half = len(sound) // 2
        parts = [sound] if told else [sound[:half], sound[half:]]
        made, kept = [], []
        for part in parts:
            try:
                outputs, answered = answer_sound(answer, part, told.append)
            except Unreadable as failed:
                told += failed.problems
                continue
            made.append(outputs)
            kept += answered
        if not made:
            raise Unreadable(problems=_first(told)) from error
    for sentence in told:
        on_broken(sentence)
    return {key: np.concatenate([one[key] for one in made]) for key in made[0]}, kept


def _first(problems: list[str], most: int = 20) -> list[str]:
    more = [f"{len(problems) - most:,} more of the kind."] if len(problems) > most else []
    return [*problems[:most], *more]


def _name(one: Any) -> str:
    return f"<{len(one)} bytes>" if isinstance(one, bytes) else str(one)


def _problems(pictures: Sequence[Any]) -> list[str | None]:
    """Return what is wrong with each picture."""
    from kerasft.data.pictures.audit import inspect

    return [inspect(one if isinstance(one, bytes) else str(one)).problem for one in pictures]


def answers(
    outputs: Mapping[str, np.ndarray], inputs: Sequence[Any], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the outputs as one readable dict an input, the shortest answer first."""
    # A signature hands its outputs back in an order of its own.
    first = [name for name in ("label", "labels", "score", "value") if name in outputs]
    # The likeliest labels of a served answer are in its probabilities, too.
    names = [n for n in dict.fromkeys([*first, *outputs]) if not n.startswith("top_")]
    rows = []
    for i, given in enumerate(inputs):
        shown = f"<{len(given)} bytes>" if isinstance(given, bytes) else given
        row: dict[str, Any] = {"input": shown}
        for name in names:
            value = outputs[name][i]
            if name == "probabilities":
                row[name] = dict(zip(labels, (float(v) for v in value), strict=True))
            elif getattr(value, "ndim", 0):
                row[name] = [label for label, on in zip(labels, value, strict=True) if on]
            else:
                row[name] = plain(value)
        rows.append(row)
    return rows
