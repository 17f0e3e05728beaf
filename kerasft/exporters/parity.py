"""Proof that an exported artifact gives what the network in memory gives."""

from __future__ import annotations

import base64
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.errors import UserError
from kerasft.artifact import replay
from kerasft.artifact.layout import EXTRA, as_inputs, read_signature

BATCH = 32
SINGLY = 8
SECONDS = 900


class ExportError(UserError):
    """An export that was written, checked and found wanting."""


def certify(
    export_dir: str | Path,
    raw_examples: np.ndarray,
    expected: Mapping[str, np.ndarray],
    *,
    tolerance: float = 1e-4,
) -> dict[str, Any]:
    """Serve raw examples from the artifact in a fresh process, and compare.

    The process has neither Keras nor kerasft, and loads the artifact as a server does. All
    examples go through it in batches, and the first few one by one. What was found is written to
    `assets.extra/parity.json` inside the artifact.

    Args:
        export_dir: The folder of a SavedModel with our `assets.extra/signature.json`.
        raw_examples: Object array of texts or encoded pictures, `[N]`; pairs of texts `[N, 2]`.
        expected: What the network in memory gives for them: output name to array.
        tolerance: The largest difference that passes; for outputs beyond 1 in size, relative to
            the largest expected value.

    Returns:
        `examples`, `singly`, `tolerance`, `largest_difference` (by output name), `label_flips`
        (examples with another label), `ties` (those of them that lay within the tolerance of
        another label, and so are no disagreement), `python`, `tensorflow`.

    Raises:
        ExportError: If the artifact does not load, does not run, or disagrees.

    Example:
        >>> texts = np.array(["a fine film"], object)
        >>> certify("export/1", texts, outputs)["label_flips"]  # doctest: +SKIP
        0
    """
    directory = Path(export_dir)
    signature = read_signature(directory)
    inputs = as_inputs(list(raw_examples), signature)
    count = len(next(iter(inputs.values())))
    if count == 0:
        raise ExportError("An export is proved on at least one example. Received: none.")
    answers = _serve(directory, inputs)
    report: dict[str, Any] = {
        "examples": count,
        "singly": min(SINGLY, count),
        "tolerance": tolerance,
        "largest_difference": {},
        "label_flips": 0,
        "ties": 0,
        "python": platform.python_version(),
        "tensorflow": str(answers.pop("tensorflow")),
    }
    problems = []
    missing = sorted(set(expected) - {name.partition("/")[2] for name in answers})
    if missing:
        problems.append(f"it has no output {', '.join(missing)}")
    near = _near_ties(expected, signature, tolerance)
    flipped = np.zeros(count, bool)
    for key, served in answers.items():
        name = key.partition("/")[2]
        if name not in expected:
            continue
        wanted = _plain(expected[name])[: len(served)]
        if served.shape != wanted.shape:
            problems.append(f"{name} has the shape {served.shape} instead of {wanted.shape}")
        elif served.dtype.kind == "f":
            worst = _difference(served, wanted)
            seen = report["largest_difference"].get(name, 0.0)
            report["largest_difference"][name] = max(seen, worst)
        else:
            rows = (served != wanted).reshape(len(served), -1).any(axis=-1)
            flipped[: len(served)] |= rows
    for name, worst in report["largest_difference"].items():
        if not worst <= tolerance:
            problems.append(f"{name} differs by {worst:.3g}, more than {tolerance:g}")
    report["label_flips"] = int(flipped.sum())
    report["ties"] = int((flipped & near).sum())
    if report["label_flips"] > report["ties"]:
        problems.append(f"{report['label_flips']} of {count} examples get another label")
    (directory / EXTRA / "parity.json").write_text(json.dumps(report, indent=2) + "\n")
    if problems:
        raise ExportError(
            f"The exported artifact disagrees with the network in memory on {count} examples: "
            f"{'; '.join(problems)}. It is not kept. This is either an op that runs differently "
            "in a server or a preprocessing that depends on the process it runs in."
        )
    return report


def _serve(directory: Path, inputs: Mapping[str, list[bytes]]) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        request, response = Path(folder, "request.json"), Path(folder, "response.npz")
        encoded = {
            name: [base64.b64encode(value).decode() for value in values]
            for name, values in inputs.items()
        }
        request.write_text(json.dumps({"inputs": encoded, "batch": BATCH, "singly": SINGLY}))
        # Without the accelerator: its memory is this process's, and the figures are compared with
        # those of the processor.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-I", *map(str, (replay.__file__, directory, request, response))]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"The exported artifact did not answer within {SECONDS} s in a fresh process."
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ExportError(
                "The exported artifact does not run in a fresh process without Keras "
                f"(exit status {done.returncode}). Its last words:\n" + "\n".join(said[-12:])
            )
        with np.load(response) as answers:
            return dict(answers)


def _plain(values: Any) -> np.ndarray:
    """Return strings as bytes, as a served answer holds them."""
    array = np.asarray(values)
    if array.dtype.kind in "OU":
        flat = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
        return np.array(flat, "S").reshape(array.shape)
    return array


def _difference(served: np.ndarray, wanted: np.ndarray) -> float:
    served, wanted = served.astype(np.float64), wanted.astype(np.float64)
    if served.size == 0:
        return 0.0
    scale = max(1.0, float(np.abs(wanted).max()))
    worst = float(np.abs(served - wanted).max()) / scale
    return worst if np.isfinite(worst) else float("inf")


def _near_ties(
    expected: Mapping[str, np.ndarray], signature: Mapping[str, Any], tolerance: float
) -> np.ndarray | bool:
    """Tell the examples whose label hangs on less than the tolerance."""
    if "probabilities" not in expected:
        return False
    p = np.asarray(expected["probabilities"], np.float64)
    if signature["kind"] == "multi":
        return (np.abs(p - signature["threshold"]) <= tolerance).any(axis=-1)
    if p.shape[-1] < 2:
        return False
    second, first = np.sort(p, axis=-1)[:, -2:].T
    return first - second <= 2 * tolerance
