"""Exports of a finished run, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kerasft.artifact.layout import EXTRA, PARITY, SIGNATURE, WEIGHTS
from kerasft.config import composition
from kerasft.config.checks import check
from kerasft.config.composition import build
from kerasft.contracts import Rounding, Task
from kerasft.errors import UserError
from kerasft.raw_input import as_raw
from kerasft.runs import evidence
from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.answers.on_base import on_base
from kerasft.system.console import say, warn
from kerasft.system.files import read_json
from kerasft.system.recorded import read_figures


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
    node: DictConfig, cfg: DictConfig, finetuned: FineTuned, folder: RunFolder
) -> dict[str, Path]:
    """Write exports, each proved on what the run kept of its held-out examples.

    Args:
        node: The `export` group of a config.
        cfg: The config of the run.
        finetuned: The run's model.
        folder: The run folder, where the exports go.

    Returns:
        The folder of each export, by name.
    """
    made: dict[str, Path] = {}
    wanted = {key: one for key, one in (node or {}).items() if one}
    if not wanted:
        return made
    if isinstance(finetuned.task, Rounding) and (said := finetuned.task.served_precision()):
        warn(said)
    from kerasft.model.fast import at_rest

    kept, facts = evidence.read(folder), about(folder, cfg)
    further: dict[str, Any] = {"at_rest": at_rest} if cfg.fast else {}
    further |= {"saved_adapter": folder.adapter,
                "on_base": partial(on_base, cfg, finetuned, kept)}  # fmt: skip
    for key, one in wanted.items():
        say(f"export {key} ...")
        made[key] = build(
            one, model=finetuned.model, directory=str(folder.path / "exports" / key),
            preprocess=finetuned.preprocess, task=finetuned.task, labels=finetuned.labels,
            evidence=kept, examples=as_raw(kept.examples.inputs, kept.examples.modality),
            about=facts, name=cfg.name, **further,
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


def _of_weights(report: Mapping[str, Any], task: Task) -> str:
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


def _say_decided(signature: Mapping[str, Any], task: Task) -> None:
    """Say what tuned decisions did to the figure that the run was steered by."""
    if notice := signature["decision"]["validation"].get("notice"):
        warn(f"export: {notice}.")
    name = task.monitor.removeprefix("val_")
    one = signature["decision"]["validation"].get("figures", {}).get(name)
    if one:
        goal = signature["decision"].get("goal", "the temperature")
        say(f"decisions for {goal}: {name} {one['before']:.4f} as the run decided, "
            f"{one['after']:.4f} with them, on validation, where they were tuned")


def about(folder: RunFolder, cfg: DictConfig) -> dict[str, Any]:
    """Return the facts of a run that the card of its model tells."""
    from kerasft.data.manifest import read_manifest

    facts = folder.facts()
    found: dict[str, Any] = {key: facts[key] for key in ("command", "started") if key in facts}
    found["metrics"] = read_figures(folder.metrics) if folder.metrics.is_file() else {}
    backbone = cfg.backbone
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
