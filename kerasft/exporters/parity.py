"""Proof that an exported artifact gives what the trained network gave."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.digests import digests
from kerasft.artifact.fresh import ExportError, ask
from kerasft.artifact.golden import Golden, apart, spread_of, write_golden
from kerasft.artifact.layout import DEFAULT, EXTRA, PARITY
from kerasft.contracts import Answered
from kerasft.exporters.signatures import Served
from kerasft.spec import Evidence
from kerasft.system.files import write_json

# What the largest difference may be. In half precision, batches of another size round differently.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
# The same for logits that the run kept, maybe on another machine.
RUN_TOLERANCE = 1e-3
BATCH = 32
SINGLY = 8
# A golden request that would take more than this in its file is left out: the pixels of a batch
# of pictures, say.
MOST_CHARACTERS = 8_000_000


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
        raw: Object array of texts or encoded pictures, `[N]`; pairs of texts `[N, 2]`.
        tolerance: The largest difference that passes; for outputs beyond 1 in size, relative to
            the largest expected value; for predicted numbers, in parts of the labels' spread.
        golden: How many examples become golden requests.
        evidence: What the run kept: its labels and logits for the same examples.

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
    found = served.in_memory(raw)
    calls = [call for name in signatures for call in _calls(served, name, raw, golden)]
    answers = ask(directory, [(call.signature, call.inputs) for call in calls])
    report: dict[str, Any] = {
        "passed": False, "examples": len(raw), "singly": min(SINGLY, len(raw)),
        "tolerance": tolerance, "signatures": {}, "run": None, "metric": None,
        "python": platform.python_version(), "tensorflow": answers.tensorflow,
        "digests": digests(directory),
    }  # fmt: skip
    problems = []
    ties = near_ties(served.answers_of(found), served.labels.kind, served.cutoffs, tolerance)
    ranked = near_ties(
        served.answers_of(found), "ranked", None, tolerance, top=served.top_k
    )
    for name in signatures:
        mine = [(call, answers.outputs[i], answers.errors[i])
                for i, call in enumerate(calls) if call.signature == name]
        if errors := [error for _, _, error in mine if error]:
            problems.append(f"{name} fails: {errors[0].splitlines()[0]}")
            continue
        wanted = served.expected(name, found)
        report["signatures"][name], worse = _compare(
            wanted, mine, ties, ranked, tolerance, served.spread
        )
        problems += [f"{name}: {problem}" for problem in worse]
    if evidence is not None:
        report["run"], worse = _against_run(served, found["logits"], evidence)
        problems += worse
        if not problems:
            report["metric"] = _metric(served, evidence, calls, answers.outputs)
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
        for call, outputs in zip(calls, answers.outputs, strict=True) if call.golden
    ), tolerance=tolerance)  # fmt: skip
    return report


def _calls(served: Served, name: str, raw: np.ndarray, golden: int) -> Iterator[Call]:
    """Yield all examples in batches, the first few singly, and a golden batch."""
    batches = [slice(i, min(i + BATCH, len(raw))) for i in range(0, len(raw), BATCH)]
    singles = [slice(i, i + 1) for i in range(min(max(SINGLY, golden), len(raw)))]
    together = [slice(0, min(golden, len(raw)))] if golden > 1 else []
    for kind, slices in (("all", batches), ("one", singles), ("golden", together)):
        for rows in slices:
            inputs = served.inputs_of(name, raw[rows])
            small = sum(map(_characters, inputs.values())) <= MOST_CHARACTERS
            kept = kind == "golden" or (kind == "one" and rows.stop <= golden)
            yield Call(name, inputs, rows, kept and small)


def _characters(values: np.ndarray) -> int:
    """Return about how many characters an array takes as JSON."""
    if values.dtype == object:
        return sum(len(value) for value in values.ravel().tolist()) * 4 // 3  # base64
    return values.size * 12


def _compare(
    wanted: Mapping[str, np.ndarray], mine: Sequence[tuple[Call, Mapping[str, np.ndarray], Any]],
    ties: np.ndarray, ranked: np.ndarray, tolerance: float, spread: float | None,
) -> tuple[dict[str, Any], list[str]]:
    """Hold the answers of one signature against what is wanted."""
    worst, problems = dict.fromkeys(wanted, 0.0), []
    flipped, tied = np.zeros(len(ties), bool), np.zeros(len(ties), bool)
    for call, outputs, _ in mine:
        if missing := sorted(set(wanted) - set(outputs)):
            problems.append(f"it has no output {', '.join(missing)}")
            break
        for name, whole in wanted.items():
            part, served = _bytes(whole[call.rows]), _bytes(outputs[name])
            if served.shape != part.shape:
                problems.append(f"{name} has the shape {served.shape} instead of {part.shape}")
            elif part.dtype.kind == "f":
                of_labels = spread_of({"spread": spread}, name)
                worst[name] = max(worst[name], apart(served, part, of_labels))
            else:
                apart_rows = (served != part).reshape(len(part), -1).any(axis=-1)
                near = (ranked if name == "top_labels" else ties)[call.rows]
                flipped[call.rows] |= apart_rows & ~near
                tied[call.rows] |= apart_rows & near
    differences = {name: worst[name] for name, v in wanted.items() if v.dtype.kind == "f"}
    for name, value in differences.items():
        if not value <= tolerance:
            problems.append(f"{name} differs by {value:.3g}, more than {tolerance:g}")
    if flipped.any():
        problems.append(f"{flipped.sum()} of {len(ties)} examples get another label")
    told = {
        "largest_difference": differences, "label_flips": int(flipped.sum()),
        "ties": int((tied & ~flipped).sum()),
    }
    return told, list(dict.fromkeys(problems))


def _against_run(
    served: Served, logits: np.ndarray, evidence: Evidence
) -> tuple[dict[str, Any], list[str]]:
    """Hold the network in memory against the logits that the run kept."""
    kept = evidence.kept["logits"]
    if kept.shape != logits.shape:
        return {}, [f"the run kept outputs of the shape {kept.shape}, not {logits.shape}"]
    difference = apart(logits, kept)
    flips = 0
    if served.labels.kind == "single":
        flips = int((logits.argmax(axis=-1) != kept.argmax(axis=-1)).sum())
    problems = []
    if not difference <= RUN_TOLERANCE:
        problems.append(
            f"the network in the run folder gives other outputs than the run measured: "
            f"{difference:.3g} apart, more than {RUN_TOLERANCE:g}"
        )
    return {"largest_difference": difference, "label_flips": flips}, problems


def _metric(
    served: Served, evidence: Evidence, calls: Sequence[Call],
    outputs: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Return the task's figure on the examples, from the run's outputs and from the artifact's."""
    task, labels = served.task, served.labels
    if not isinstance(task, Answered):
        return {}
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
        for side in (served.answers_of({"logits": evidence.kept["logits"]}), answered)
    ]
    name = task.monitor.removeprefix("val_")
    if name not in sides[0]:
        name = next((k for k, v in sides[0].items() if isinstance(v, float)), "")
    return {"name": name, "examples": count, "run": sides[0].get(name),
            "export": sides[1].get(name)}  # fmt: skip


def near_ties(
    outputs: Mapping[str, np.ndarray], kind: str, cutoffs: Any, tolerance: float,
    top: int | None = None,
) -> np.ndarray:
    """Tell the examples whose label hangs on less than the tolerance.

    Args:
        outputs: What is expected of them.
        kind: What the labels are; `"ranked"` where the order of the first ones counts.
        cutoffs: The probabilities that decide, for each class or for all, or `None`.
        tolerance: What outputs may differ by.
        top: How many are the first ones; all by default.
    """
    if "probabilities" not in outputs:
        return np.zeros(len(next(iter(outputs.values()))), bool)
    p = np.asarray(outputs["probabilities"], np.float64)
    near = np.zeros(len(p), bool)
    if cutoffs is not None:
        near |= (np.abs(p - np.asarray(cutoffs)) <= tolerance).any(axis=-1)
    if kind in ("single", "ranked") and p.shape[-1] > 1:
        gaps = np.diff(np.sort(p, axis=-1), axis=-1) <= 2 * tolerance
        near |= gaps[:, -1] if kind == "single" else gaps[:, -(top or p.shape[-1]):].any(axis=-1)
    return near


def _bytes(values: object) -> np.ndarray:
    """Return strings as objects of bytes, as a served answer holds them."""
    array = np.asarray(values)
    if array.dtype.kind not in "OSU":
        return array
    made = np.empty(array.size, object)
    made[:] = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
    return made.reshape(array.shape)
