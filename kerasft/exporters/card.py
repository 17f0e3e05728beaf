"""The card of a model: what it is, what it was measured at, and what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.artifact.layout import CARD, DEFAULT
from kerasft.system.files import written_whole

_TASKS = {
    "single": "one class an example", "multi": "any number of classes an example",
    "number": "a number an example", "numbers": "several numbers an example",
    "boxes": "objects, each with a box and a class", "masks": "the class of each pixel",
    "spans": "entities, each with a type and its place in the text",
}
_MODALITIES = {"images": "images", "text": "texts"}


def write(
    directory: Path, signature: Mapping[str, Any], proof: Mapping[str, Any] | None,
    about: Mapping[str, Any], *, licence: str | None, limits: str | None,
    weights: Mapping[str, Any] | None = None,
) -> Path:
    """Write the card of a version as Markdown.

    Args:
        directory: The folder of the version.
        signature: What `signature.json` says.
        proof: What `parity.json` says, or `None` where nothing was proved.
        about: Facts of the run: `command`, `backbone`, `data` (`source` and the number of examples
            a split), `metrics` by split, `started`.
        licence: The licence of the model.
        limits: What it is not for.
        weights: What `weights.json` says, where the weights take fewer bits.

    Returns:
        The file.
    """
    parts = [
        f"# {_text(signature['name'])}", _what(signature, about), "## Data", _data(about),
        "## Metrics", _figures(about, signature["kind"]), "## Decisions", _decisions(signature),
        *_weights(weights), "## Proof", _proof(proof), "## Limits", limits or _NO_LIMITS,
        "## Licence", licence or _NO_LICENCE, "## Use", _use(signature),
    ]  # fmt: skip
    with written_whole(directory / CARD) as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return directory / CARD


_NO_LIMITS = (
    "None were stated (`limits` of the export). What holds for every model of this kind: the "
    "metrics above are for data like that of the test split; it knows no classes but its own, and "
    "answers whatever it is asked."
)
_NO_LICENCE = (
    "None was stated (`licence` of the export). The licences of the pretrained network and of "
    "the data bind whoever uses or passes on this model."
)


def _what(signature: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    modality = _MODALITIES[signature["modality"]]
    kind = _TASKS.get(signature["kind"], _text(signature["kind"]))
    lines = [f"A model for {modality}: {kind}."]
    if backbone := about.get("backbone"):
        lines.append(f"Fine-tuned from {_code(backbone)}.")
    if labels := signature["labels"]:
        shown = ", ".join(map(_code, labels[:20]))
        more = f" and {len(labels) - 20} more" if len(labels) > 20 else ""
        lines.append(f"Classes: {shown}{more}.")
    if about.get("started"):
        lines.append(f"The run began at {_text(about['started'])}.")
    if about.get("command"):
        command = _line(about["command"])
        fence = "`" * max(_longer_than_in(command), 3)
        lines.append(f"It was made by:\n\n{fence}\n{command}\n{fence}")
    made = ", ".join(f"{_text(key)} {_text(value)}" for key, value in signature["versions"].items())
    return "\n".join([*lines, "", f"Versions: {made}."])


def _data(about: Mapping[str, Any]) -> str:
    data = about.get("data") or {}
    lines = [f"- {_text(key)}: {_code(value)}" for key, value in data.get("source", {}).items()
             if isinstance(value, str | int | float) and value is not None]
    counts = data.get("examples", {})
    if counts:
        shown = (f"{count:,} {_text(split)}" for split, count in counts.items())
        lines.append(f"- examples: {', '.join(shown)}")
    return "\n".join(lines) or "Nothing is known of it."


def _figures(about: Mapping[str, Any], kind: str) -> str:
    metrics = about.get("metrics") or {}
    names = list(dict.fromkeys(
        name for split in metrics.values() for name, value in split.items()
        if isinstance(value, int | float) and name != "threshold"
    ))  # fmt: skip
    if not names:
        return "None are known."
    rows = ["| | " + " | ".join(map(_text, metrics)) + " |", "|---" * (len(metrics) + 1) + "|"]
    for name in names:
        values = [split.get(name) for split in metrics.values()]
        shown = ["" if value is None else f"{value:.4f}" for value in values]
        rows.append(f"| {_text(name)} | " + " | ".join(shown) + " |")
    return "\n".join([
        "As measured by the run. The best epoch and all thresholds were chosen on "
        "validation, whose metrics are therefore optimistic; test was evaluated once.", "", *rows,
    ])  # fmt: skip


def _decisions(signature: Mapping[str, Any]) -> str:
    decision = signature["decision"]
    lines = [f"- temperature: {decision['temperature']:.4g}"]
    if rule := signature.get("decides"):
        lines = [f"- {_text(rule['rule'])}"]
        lines += [f"- {_text(name)} of {_code(unit)}: {value:.4g}"
                  for name, each in rule.items() if isinstance(each, Mapping)
                  for unit, value in each.items()]
        lines += [f"- {_text(name)}: {value:g}" for name, value in rule.items()
                  if isinstance(value, int | float)]
    elif "goal" in decision:
        least = decision["at_least"]
        more = "" if least is None else f" of at least {least:g}"
        lines.append(f"- goal: {decision['goal']}{more}, tuned on validation")
        if decision["positive"]:
            lines.append(f"- positive class: {_code(decision['positive'])}")
        lines += [f"- threshold of {_code(name)}: {value:.4f}"
                  for name, value in decision["thresholds"].items()]
    elif "threshold" in signature:
        lines.append(f"- threshold of all classes: {signature['threshold']:.4f}")
    if notice := decision["validation"].get("notice"):
        lines.append(f"- {_text(notice)}")
    if figures := decision["validation"].get("figures"):
        lines += ["", "What they change on validation, where they were tuned:", "",
                  "| | as the run decided | with these |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {_text(name)} | {one['before']:.4f} | {one['after']:.4f} |"
                  for name, one in figures.items()]
    return "\n".join(lines)


def _weights(weights: Mapping[str, Any] | None) -> list[str]:
    if weights is None:
        return []
    sizes, worst = weights["sizes"], max(weights["largest_difference"].values(), default=0.0)
    before, after = (f"{sizes[way] / 1e6:.3g}" for way in ("before", "after"))
    lines = [
        f"Kept in {weights['weights']}: {after} MB instead of {before}. "
        f"Of {weights['examples']} answers {weights['label_flips']} have another label than with "
        f"whole weights; the largest difference is {worst:.2g}.",
    ]  # fmt: skip
    if figures := weights.get("metrics"):
        lines += ["", "On the held-out examples that the run kept:", "",
                  f"| | whole | {weights['weights']} |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {name} | {_number(value)} | {_number(figures['after'].get(name))} |"
                  for name, value in figures["before"].items()]
    return ["## Weights", "\n".join(lines)]


def _proof(proof: Mapping[str, Any] | None) -> str:
    if proof is None:
        return "This version was not compared with the network that it was made from."
    lines = [
        f"Loaded in a fresh process without Keras, it answered {proof['examples']} held-out "
        f"examples in batches and {proof['singly']} one by one through each signature:", "",
        "| signature | largest difference | other labels |", "|---|---|---|",
    ]  # fmt: skip
    for name, found in proof["signatures"].items():
        worst = max(found["largest_difference"].values(), default=0.0)
        lines.append(f"| `{name}` | {worst:.2g} | {found['label_flips']} |")
    lines += ["", f"A difference of up to {proof['tolerance']:g} passes."]
    if metric := proof.get("metric"):
        lines.append(
            f"On these examples {metric['name']} is {_number(metric['run'])} in the run and "
            f"{_number(metric['export'])} here."
        )
    return "\n".join(lines)


def _use(signature: Mapping[str, Any]) -> str:
    inputs = ", ".join(f"`{name}`" for name in signature["signatures"][DEFAULT]["inputs"])
    outputs = ", ".join(f"`{name}`" for name in signature["signatures"][DEFAULT]["outputs"])
    others = ", ".join(f"`{name}`" for name in signature["signatures"] if name != DEFAULT)
    return (
        f"`{DEFAULT}` takes {inputs} as they are, and gives {outputs}. Other signatures: "
        f"{others or 'none'}. `assets.extra/signature.json` tells all of them; the folder "
        "`serving` beside the versions holds configs and clients for TensorFlow Serving."
    )


def _number(value: object) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _line(value: object) -> str:
    """Return a value in one line."""
    return " ".join(str(value).split())


def _text(value: object) -> str:
    """Return a value in one line of Markdown that is read as it stands: no tag, link or cell."""
    escaped = re.sub(r"([\\`\[|])", r"\\\1", _line(value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _code(value: object) -> str:
    """Return a value as code in Markdown, whatever stands in it."""
    text = _line(value)
    fence = "`" * _longer_than_in(text)
    # Markdown takes one space off each side again.
    edge = " " if not text or "`" in (text[0], text[-1]) else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def _longer_than_in(text: str) -> int:
    """Return how many backticks in a row do not stand in a text."""
    return max(map(len, re.findall("`+", text)), default=0) + 1
