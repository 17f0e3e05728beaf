"""Proof that an exported artifact gives what the trained network gave."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import Output, aligned, apart, differs, rows_apart, rule_for
from kerasft.artifact.digests import digests
from kerasft.artifact.fresh import ExportError, ask
from kerasft.artifact.golden import Golden, write_golden
from kerasft.artifact.layout import DEFAULT, EXTRA, PARITY
from kerasft.contracts import Answered
from kerasft.exporters.served import Arrays, Expected, Served
from kerasft.exporters.signatures import inputs_of
from kerasft.rows import Rows
from kerasft.spec import Evidence
from kerasft.system.files import write_json

# What the largest difference may be. In half precision, batches of another size round differently.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
# The same for logits that the run kept, maybe on another machine.
RUN_TOLERANCE = 1e-3
BATCH = 32
SINGLY = 8
# A golden request that would take more than this in its file, with its answer, is left out: the
# pixels of a batch of images, say.
MOST_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Call:
    """One request: some of the examples, through one signature."""

    signature: str
    inputs: Mapping[str, np.ndarray]
    rows: slice
    golden: bool


def certify(
    directory: str | Path, served: Served, signatures: Sequence[str], raw: np.ndarray, *,
    tolerance: float = TOLERANCE, golden: int = 4, evidence: Evidence | None = None,
) -> dict[str, Any]:
    """Serve raw examples from the artifact in a fresh process, and compare.

    The process has neither Keras nor kerasft, and loads the artifact as a server does. All
    examples go through each signature in batches, and the first few one by one. What was found is
    written to `assets.extra/parity.json` inside the artifact, and what it answered to
    `golden.json`.

    Args:
        directory: The folder of a SavedModel with our `assets.extra/signature.json`.
        served: The network in memory with its preprocessing, task and decision.
        signatures: The names of the artifact's signatures.
        raw: Object array of texts or encoded images, `[N]`; pairs of texts `[N, 2]`.
        tolerance: The largest difference that passes; for outputs beyond 1 in size, relative to
            the largest expected value; for predicted numbers, in parts of the labels' spread.
        golden: How many examples become golden requests.
        evidence: What the run kept of the same examples, and their labels.

    Returns:
        What `parity.json` holds: by signature the `largest_difference` of each output, and
        `label_flips`, without the `ties`, which lay within the tolerance of another label;
        `run`: the same of the network in memory against what the run kept;
        `metric`: the task's figure on both sides; `digests` of the files.

    Raises:
        ExportError: If the artifact does not load, does not run, or disagrees.

    Example:
        >>> certify("export/1", served, ["embed"], texts)["examples"]  # doctest: +SKIP
        32
    """
    if len(raw) == 0:
        raise ExportError("An export is proved on at least one example. Received: none.")
    annotations = None if evidence is None else evidence.examples.annotations
    expected = served.expected(raw, annotations)
    calls = [call for name in signatures for call in _calls(served, name, raw, golden)]
    answers = ask(directory, [(call.signature, call.inputs) for call in calls])
    report: dict[str, Any] = {
        "passed": False, "examples": len(raw), "singly": min(SINGLY, len(raw)),
        "tolerance": tolerance, "signatures": {}, "run": None, "metric": None,
        "python": platform.python_version(), "tensorflow": answers.tensorflow,
        "digests": digests(directory),
    }  # fmt: skip
    problems = []
    rules = served.rules()
    for name in signatures:
        mine = [(call, answers.outputs[i], answers.errors[i])
                for i, call in enumerate(calls) if call.signature == name]
        if errors := [error for _, _, error in mine if error]:
            problems.append(f"{name} fails: {errors[0].splitlines()[0]}")
            continue
        report["signatures"][name], worse = _compare(
            expected.of(name), mine, len(raw), rules, tolerance
        )
        problems += [f"{name}: {problem}" for problem in worse]
    if evidence is not None and expected.kept is not None:
        report["run"], worse = against_run(expected.kept, evidence.kept, rules)
        problems += worse
        if not problems:
            report["metric"] = _metric(served, evidence, expected, calls, answers.outputs)
    report["passed"] = not problems
    write_json(Path(directory) / EXTRA / PARITY, report)
    if problems:
        raise ExportError(
            f"The exported artifact disagrees with the trained network on {len(raw)} examples: "
            f"{'; '.join(problems)}. It is not kept. This is either an op that runs differently "
            "in a server, a preprocessing that depends on the process it runs in, or a run folder "
            "whose files do not belong together."
        )
    write_golden(directory, (
        Golden(call.signature, call.inputs, outputs)
        for call, outputs in zip(calls, answers.outputs, strict=True)
        if call.golden and _characters(call.inputs) + _characters(outputs) <= MOST_CHARACTERS
    ), tolerance=tolerance)  # fmt: skip
    return report


def _calls(served: Served, name: str, raw: np.ndarray, golden: int) -> Iterator[Call]:
    """Yield all examples in batches, the first few singly, and a golden batch."""
    batches = [slice(i, min(i + BATCH, len(raw))) for i in range(0, len(raw), BATCH)]
    singles = [slice(i, i + 1) for i in range(min(max(SINGLY, golden), len(raw)))]
    together = [slice(0, min(golden, len(raw)))] if golden > 1 else []
    for kind, slices in (("all", batches), ("one", singles), ("golden", together)):
        for rows in slices:
            kept = kind == "golden" or (kind == "one" and rows.stop <= golden)
            yield Call(name, inputs_of(served, name, raw[rows]), rows, kept)


def _characters(arrays: Mapping[str, np.ndarray]) -> int:
    """Return about how many characters arrays take as JSON."""
    count = 0
    for values in arrays.values():
        if values.dtype.kind in "OSU":
            count += sum(len(value) for value in values.ravel().tolist()) * 4 // 3  # base64
        else:
            count += values.size * (12 if values.dtype.kind == "f" else 5)
    return count


def _compare(
    wanted: Arrays, mine: Sequence[tuple[Call, Mapping[str, np.ndarray], Any]], count: int,
    rules: Mapping[str, Output], tolerance: float,
) -> tuple[dict[str, Any], list[str]]:
    """Hold the answers of one signature against what is wanted, each output by its rule."""
    worst: dict[str, float] = {}
    problems: list[str] = []
    flipped, tied = np.zeros(count, bool), np.zeros(count, bool)
    mine = [
        (call, aligned(_each(outputs), {n: _bytes(w[call.rows]) for n, w in wanted.items()}, rules,
                       tolerance), error)
        for call, outputs, error in mine
    ]  # fmt: skip
    for name, whole in wanted.items():
        rule = rule_for(name, whole, rules)
        near = rule.near(wanted, count, tolerance)
        if rule.by_amount:
            worst[name] = 0.0
        for call, outputs, _ in mine:
            if name not in outputs:
                problems.append(f"it has no output {name}")
                break
            part, served = _bytes(whole[call.rows]), _bytes(outputs[name])
            if served.shape != part.shape and not rule.padded:
                problems.append(f"{name} has the shape {served.shape} instead of {part.shape}")
            elif rule.by_amount:
                worst[name] = max(worst[name], differs(rule, served, part))
            else:
                others = rows_apart(served, part)
                flipped[call.rows] |= others & ~near[call.rows]
                tied[call.rows] |= others & near[call.rows]
    for name, value in worst.items():
        if not value <= tolerance:
            problems.append(f"{name} differs by {value:.3g}, more than {tolerance:g}")
    if flipped.any():
        problems.append(f"{flipped.sum()} of {count} examples get another label")
    told = {
        "largest_difference": worst, "label_flips": int(flipped.sum()),
        "ties": int((tied & ~flipped).sum()),
    }
    return told, list(dict.fromkeys(problems))


def against_run(
    now: Rows, kept: Rows, rules: Mapping[str, Output]
) -> tuple[dict[str, Any], list[str]]:
    """Hold what the task keeps of the network in memory against what the run kept."""
    worst, every = 0.0, np.arange(len(kept))
    wanted = kept.gather(every)
    found = aligned(now.gather(np.arange(len(now))), wanted, rules, RUN_TOLERANCE)
    for name, then in wanted.items():
        values = found.get(name, np.zeros(0))
        if values.shape != then.shape:
            return {}, [f"the run kept outputs of the shape {then.shape}, not {values.shape}"]
        worst = max(worst, apart(values, then))
    problems = []
    if not worst <= RUN_TOLERANCE:
        problems.append(
            f"the network in the run folder gives other outputs than the run measured: "
            f"{worst:.3g} apart, more than {RUN_TOLERANCE:g}"
        )
    return {"largest_difference": worst}, problems


def _metric(
    served: Served, evidence: Evidence, expected: Expected, calls: Sequence[Call],
    outputs: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, Any] | None:
    """Return the task's figure on the examples, of the network in memory and of the artifact."""
    task, labels = served.task, served.labels
    if not isinstance(task, Answered):
        return None
    count = len(evidence.examples)
    batches, covered = [], 0
    for call, answer in zip(calls, outputs, strict=True):
        if call.signature == DEFAULT and call.rows.start == covered and covered < count:
            batches.append(answer)
            covered = call.rows.stop
    answered = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    annotations = evidence.examples.annotations
    sides = [
        task.figures(task.statistics_of(annotations, side, labels), labels)
        for side in (expected.answers, answered)
    ]
    name = task.monitor.removeprefix("val_")
    if name not in sides[0]:
        name = next((k for k, v in sides[0].items() if isinstance(v, float)), "")
    return {"name": name, "examples": count, "run": sides[0].get(name),
            "export": sides[1].get(name)}  # fmt: skip


def _each(outputs: Mapping[str, Any]) -> Arrays:
    return {name: _bytes(values) for name, values in outputs.items()}


def _bytes(values: object) -> np.ndarray:
    """Return strings as objects of bytes, as a served answer holds them."""
    array = np.asarray(values)
    if array.dtype.kind not in "OSU":
        return array
    made = np.empty(array.size, object)
    made[:] = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
    return made.reshape(array.shape)
