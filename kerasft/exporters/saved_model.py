"""A TensorFlow SavedModel that takes raw input and gives named outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import kerasft
from kerasft.abilities import Generates
from kerasft.artifact.layout import EXTRA, LABELS, SIGNATURE, WEIGHTS
from kerasft.contracts import Deciding, Explained, Task, Thresholded
from kerasft.errors import UserError
from kerasft.exporters import card, deployment, parity, rehearsal, warmup
from kerasft.exporters.graph import write_graph
from kerasft.exporters.served import NONE, Served, raw_examples
from kerasft.exporters.signatures import Signature, require_names, signatures_of
from kerasft.exporters.tensors import require_whole
from kerasft.exporters.versions import new_version
from kerasft.spec import Decision, Evidence, Labels, Preprocess, takes_texts
from kerasft.system.files import write_json

if TYPE_CHECKING:
    import keras
    import numpy as np


def saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    evidence: Evidence | None = None,
    examples: Sequence[Any] | None = None,
    version: int | None = None,
    signatures: Sequence[str] | None = None,
    temperature: float | str = 1.0,
    goal: Literal["f1", "recall", "precision"] | None = None,
    at_least: float | None = None,
    positive: str | int | None = None,
    top_k: int = 5,
    buckets: Sequence[int] | None = None,
    golden: int = 4,
    warm_up: Sequence[int] | None = (1, 8),
    tolerance: float | None = None,
    licence: str | None = None,
    limits: str | None = None,
    about: Mapping[str, Any] | None = None,
    at_rest: Callable[[Any], AbstractContextManager] = nullcontext,
    reports: Mapping[str, Any] | None = None,
    name: str = "model",
) -> Path:
    """Write a SavedModel to `directory/VERSION/` and prove it on examples.

    `serving_default` takes `text` (with `text_pair` for pairs) or `image_bytes`, each a string
    tensor `[batch]`, and returns the task's outputs by name; `tensors` takes what the
    preprocessing makes of them; `classify` or `regress` serialized `tf.train.Example`s; `embed`
    gives the pooled features. The folder appears under its number only when all is written and
    proved, so that a server that watches `directory` never sees half of it.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: Where the versions lie.
        preprocess: Turns a batch of raw strings into the network's input; `modality`, `pair` and
            `trackables` (tables that the artifact must keep) are read from it.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        evidence: What the run kept to tune decisions and to prove the artifact.
        examples: Raw examples to prove the artifact on, or paths of images, where there is no
            evidence. Without either, it is not proved.
        version: The number of the version; the next free one by default.
        signatures: Their names; by default all that the model can have.
        temperature: The logits are divided by it; `"auto"` tunes it on validation.
        goal: What decisions are tuned for on validation: `"f1"`, `"recall"` or `"precision"`;
            nothing by default. See `Classification.decide` and `MultiLabel.decide`.
        at_least: The share that recall or precision must reach.
        positive: The class that the goal is about, where it is about one.
        top_k: How many of the likeliest labels are named.
        buckets: Lengths in tokens that batches of texts are padded to, so that a server sees few
            shapes; by default each batch is as long as its longest text.
        golden: How many of the examples are kept in the artifact as golden requests, with which
            `kerasft verify` asks it again. They can be read by whoever has the artifact.
        warm_up: The batch sizes of the requests that a server warms up with; none where empty.
        tolerance: The largest difference that passes. 1e-4 by default; 0.02 for a model that
            computes in half precision.
        licence: The licence of the model, for its card.
        limits: What the model is not for, for its card.
        about: Facts of the run for the card: `metrics`, `data`, `command`, ...
        at_rest: Lets the model compute faster while it is written and compared.
        reports: Further JSON files for `assets.extra`: name to content.
        name: What the model is called.

    Returns:
        The folder of the version.

    Raises:
        UserError: If the version is there already, the folder cannot be written or holds something
            else, or an argument does not fit the model.
        ExportError: If the artifact disagrees with the model; then nothing is left behind.

    Example:
        >>> saved_model(model, "served/films", preprocess=preprocess, task=task, labels=labels,
        ...             examples=["a fine film"])  # doctest: +SKIP
        PosixPath('served/films/1')
    """
    require_whole(model, task, labels)
    _require_sizes(golden=golden, top_k=top_k, warm_up=warm_up)
    decision = _decide(
        task, labels, evidence, temperature=temperature, goal=goal, at_least=at_least,
        positive=None if positive is None else str(positive),  # YAML reads the class 1 as a number
    )
    served = Served(
        model, preprocess, task, labels, decision, top_k, _buckets(buckets, preprocess)
    )
    served.rebuild_tokenizer()
    chosen = signatures_of(served, signatures)
    given = evidence.examples.inputs if evidence is not None else examples
    raw = None if given is None else raw_examples(given, preprocess.modality)
    with new_version(directory, version) as place, at_rest(model):
        outputs = write_graph(place.part, chosen, tuple(getattr(preprocess, "trackables", ())))
        signature = _describe(name, served, chosen, outputs)
        extra = place.part / EXTRA
        extra.mkdir(exist_ok=True)
        (extra / LABELS).write_text("".join(f"{n}\n" for n in labels.names), "utf-8")
        write_json(extra / SIGNATURE, signature)
        for file, content in (reports or {}).items():
            write_json(extra / file, content)
        proof = None
        if raw is not None:
            proof = parity.certify(
                place.part, served, list(chosen), raw, golden=golden, evidence=evidence,
                tolerance=tolerance or _tolerance(model),
            )
            if golden:
                warmup.write(place.part, served, list(chosen), raw, warm_up or (), name)
        card.write(
            place.part, signature, proof, about or {}, licence=licence, limits=limits,
            weights=(reports or {}).get(WEIGHTS),
        )
        deployment.write(place.root, signature)
    return place.final


def check_early(
    *, task: Task | None, golden: int = 4, top_k: int = 5, warm_up: Sequence[int] | None = None,
    signatures: Sequence[str] | None = None, temperature: float | str = 1.0,
    goal: str | None = None, at_least: float | None = None, positive: Any = None, **_: Any,
) -> None:
    """See before a training that what an export is told can be done, as far as that is known."""
    _require_sizes(golden=golden, top_k=top_k, warm_up=warm_up)
    if task is not None:
        require_names(signatures, task)
    if isinstance(task, Deciding):
        task.check_decision(
            temperature=temperature, goal=goal, at_least=at_least, positive=positive
        )


def rehearse(
    model: keras.Model, *, preprocess: Preprocess, task: Task, labels: Labels, examples: np.ndarray,
    signatures: Sequence[str] | None = None, golden: int = 4, top_k: int = 5,
    buckets: Sequence[int] | None = None, warm_up: Sequence[int] | None = (1, 8),
    at_rest: Callable[[Any], AbstractContextManager] = nullcontext, **_: Any,
) -> float | None:
    """Return about how long an export will take, in seconds.

    Args:
        model: The network as it will be exported, but for its weights.
        preprocess: As in `saved_model`; so are all others but `examples`.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples on which the export will be proved, `[N]`, pairs `[N, 2]`.
        signatures: Their names.
        golden: How many golden requests are kept.
        top_k: How many of the likeliest labels are named.
        buckets: Lengths in tokens that batches of texts are padded to.
        warm_up: The batch sizes of the requests that a server warms up with.
        at_rest: Lets the model compute faster.

    Returns:
        The seconds; `None` for a network that writes texts, whose signatures differ too much for
        one to stand for all.
    """
    served = Served(model, preprocess, task, labels, NONE, top_k, _buckets(buckets, preprocess))
    if served.writes:
        return None
    served.rebuild_tokenizer()
    began = time.perf_counter()
    with at_rest(model):
        chosen = signatures_of(served, signatures)
        seconds = time.perf_counter() - began
        found = rehearsal.rehearse(served, chosen, examples, golden=golden, warm_up=warm_up or ())
    return seconds + found.seconds


def _require_sizes(*, golden: int, top_k: int, warm_up: Sequence[int] | None) -> None:
    """See that what counts something can be counted."""
    problems = []
    if golden < 0:
        problems.append(f"export: golden must be at least 0. Received: {golden}.")
    if top_k < 1:
        problems.append(f"export: top_k must be at least 1. Received: {top_k}.")
    if bad := [size for size in warm_up or () if not int(size) > 0]:
        problems.append(f"export: warm_up holds batch sizes above 0. Received: {bad[0]}.")
    if problems:
        raise UserError(problems=problems)


def _decide(task: Task, labels: Labels, evidence: Evidence | None, **wanted: Any) -> Decision:
    """Tune what is wanted of temperature, goal, at_least and positive."""
    if wanted["temperature"] == 1.0 and not any(v for k, v in wanted.items() if k != "temperature"):
        return NONE
    if evidence is None or "validation" not in evidence.measured:
        if wanted["temperature"] != "auto" and not wanted["goal"]:
            check_early(task=task, **wanted)
            return Decision(float(wanted["temperature"]))
        raise UserError(
            "export: temperature=auto, goal and positive are tuned on what a run kept of its "
            "validation split, and there is nothing."
        )
    if not isinstance(task, Deciding):
        raise UserError(
            f"export: the task {type(task).__name__} has no `decide`: leave out temperature, goal "
            "and positive."
        )
    annotations, kept = evidence.measured["validation"]
    found = task.decide(annotations, kept, labels, **wanted)
    before, after = (
        _scalars(task.figures(task.statistics(annotations, kept, labels, one), labels))
        for one in (NONE, found)
    )
    changed = {
        name: {"before": before[name], "after": after[name]}
        for name in before if name in after and before[name] != after[name]
    }
    return replace(found, validation={**found.validation, "figures": changed})


def _scalars(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def _buckets(buckets: Sequence[int] | None, preprocess: Preprocess) -> tuple[int, ...]:
    found = tuple(sorted({int(b) for b in buckets or ()}))
    most = 0
    if takes_texts(preprocess) and "padding_mask" in preprocess.inputs:
        most = preprocess.sequence_length
    if found and not most:
        raise UserError(
            "export: buckets are lengths of texts, for networks that are told what is padding. "
            f"Leave them out here. Received: {list(found)}."
        )
    if found and not 0 < found[0] <= found[-1] <= most:
        raise UserError(
            f"export: buckets must be from 1 to {most}, the most tokens that this model takes. "
            f"Received: {list(found)}."
        )
    return found


def _describe(
    name: str, served: Served, signatures: Mapping[str, Signature],
    outputs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what `signature.json` says."""
    import keras
    import tensorflow as tf

    def specs(by_name: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for key, spec in by_name.items()
        }

    labels, preprocess = served.labels, served.preprocess
    facts: dict[str, Any] = {
        "name": name,
        "kind": served.task.kind,
        "modality": preprocess.modality,
        "labels": list(labels.names),
        "decision": served.decision.to_dict(labels),
        "signatures": {
            key: {
                "method": made.method, "takes": made.takes, "inputs": specs(made.inputs),
                "outputs": dict(sorted(specs(outputs[key]).items())),
            }
            for key, made in signatures.items()
        },
    }
    rules, answered = served.rules(), {name for one in outputs.values() for name in one}
    facts["compare"] = {name: rules[name].to_dict() for name in sorted(answered & set(rules))}
    if "value" in rules:
        facts["spread"] = rules["value"].unit  # for readers that know no rules
    if isinstance(served.task, Thresholded) and not served.decision.goal:
        facts["threshold"] = served.task.cutoffs(served.decision)  # as it is after a temperature
    if isinstance(served.task, Explained):
        facts["decides"] = served.task.rule(served.labels)
    if served.framed:
        # In whose pixels, tokens or characters positions are told.
        sent = "text" if preprocess.modality == "text" else "image"
        facts["positions"] = {key: "network" if key == "tensors" else sent for key in signatures}
    if isinstance(served.task, Generates):
        facts["generate"] = served.task.to_dict().get("generate", {})
    if preprocess.modality == "text":
        facts["sequence_length"] = getattr(preprocess, "sequence_length", None)
        facts["buckets"] = list(served.buckets)
    else:
        facts["image_size"] = [getattr(preprocess, side, None) for side in ("height", "width")]
    facts["versions"] = {
        "kerasft": kerasft.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    return facts


def _tolerance(model: keras.Model) -> float:
    """Return what may differ, by whether any layer computes in 16 bits."""
    half = any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())
    return parity.HALF_TOLERANCE if half else parity.TOLERANCE
