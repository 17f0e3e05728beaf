"""`kerasft bench`: how long an export takes, by batch size, and beside onnxruntime.

Each engine runs in a process of its own, and they take turns, so that what else the machine does
falls on both. Figures of a round are compared within the round.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import apart
from kerasft.artifact.fresh import fresh_environment
from kerasft.artifact.golden import Golden, read_golden
from kerasft.artifact.layout import DEFAULT, find_export
from kerasft.errors import UserError
from kerasft.serving import onnx_twin, stopwatch
from kerasft.serving.options import problems_of
from kerasft.serving.verify import Export

ROUNDS = 5
ENGINES = {DEFAULT: "TensorFlow", "tensors": "TensorFlow", "onnx": "onnxruntime"}
SECONDS = 900
_MOST_SIZES = 100


@dataclass(frozen=True)
class Timing:
    """How long one engine takes for batches of one size.

    Args:
        what: `serving_default` (from raw input), `tensors` (the network alone), or `onnx` (the
            same network under onnxruntime).
        engine: What ran it.
        batch: Examples in a batch.
        runs: How many batches were timed.
        p50: Half of them took at most so many seconds; `p95` and `p99` accordingly.
        per_second: Examples a second, at the mean.
        ratio: For `tensors`, the time as a multiple of onnxruntime's: the median over the rounds.
    """

    what: str
    engine: str
    batch: int
    runs: int
    p50: float
    p95: float
    p99: float
    per_second: float
    ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def bench(
    path: str | Path, *, batches: Sequence[int] = (1, 8, 32), seconds: float = 10.0,
    threads: int | None = None, onnx: bool | None = None,
) -> tuple[list[Timing], list[str]]:
    """Time an export.

    Args:
        path: The folder of a version, or its parent, of which the highest version is taken.
        batches: Batch sizes.
        seconds: How long each engine is timed for each batch size.
        threads: How many threads an operation may take; all cores by default.
        onnx: Whether the network is timed under onnxruntime, too; by default where it is
            installed.

    Returns:
        The timings, and sentences on what could not be timed.

    Raises:
        UserError: If there is no export, no golden request to ask it with, or no onnxruntime
            although it is wanted.

    Example:
        >>> bench("served/films", batches=[1])[0][0].p50 < 0.1  # doctest: +SKIP
        True
    """
    problems = problems_of({"seconds": seconds, "threads": threads}, ("seconds", "threads"))
    for size in batches[:_MOST_SIZES]:
        problems += problems_of({"batch": size}, ["batch"])
    if not 0 < len(batches) <= _MOST_SIZES:
        problems.append(
            f"--batch must name from 1 to {_MOST_SIZES} batch sizes. Received: {len(batches)}."
        )
    if problems:
        raise UserError(problems=problems)
    export = Export(find_export(path))
    golden, tolerance = read_golden(export.directory)
    if not any(one.signature == DEFAULT for one in golden):
        raise UserError(
            f"The export at {str(export.directory)!r} holds no golden requests to ask it with. "
            "Export it with export.saved_model.golden=4."
        )
    notes: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = {
            name: stack.enter_context(_engine(name, command))
            for name, command in _commands(
                export, golden, tolerance, folder, batches, threads or 0, onnx, notes
            )
        }
        taken = _rounds(running, batches, seconds)
    return _timings(taken, batches), notes


def _commands(
    export: Export, golden: Sequence[Golden], tolerance: float, folder: Path,
    batches: Sequence[int], threads: int, onnx: bool | None, notes: list[str],
) -> Iterator[tuple[str, list[str]]]:
    """Yield the engines, each with the command that runs it."""
    for name in (DEFAULT, "tensors"):
        requests = [one for one in golden if one.signature == name]
        if name not in export.definitions or not requests:
            notes.append(f"{name} was not timed: it has no such signature, or no golden request.")
            continue
        definition = export.definitions[name]
        outputs = _outputs(definition) if name == "tensors" else sorted(definition.outputs)
        _write(folder / f"{name}.npz", requests, batches,
               {key: tensor.name for key, tensor in definition.inputs.items()})
        fetch = ",".join(definition.outputs[key].name for key in outputs)
        yield name, ["session", str(export.directory.resolve()), str(folder / f"{name}.npz"),
                     fetch, str(threads)]
        if name == "tensors" and _wanted(onnx, notes):
            file = folder / "network.onnx"
            if _convert(export, file, outputs[0], requests, tolerance, notes):
                _write(folder / "onnx.npz", requests, batches, {k: k for k in definition.inputs})
                yield "onnx", ["onnx", str(file), str(folder / "onnx.npz"), outputs[0],
                               str(threads)]


def _outputs(definition: Any) -> list[str]:
    """Return the output that the network alone is compared by."""
    known = [name for name in ("probabilities", "value") if name in definition.outputs]
    return known[:1] or sorted(definition.outputs)[:1]


def _wanted(onnx: bool | None, notes: list[str]) -> bool:
    missing = [n for n in ("onnxruntime", "tf2onnx", "onnx") if importlib.util.find_spec(n) is None]
    if onnx and missing:
        raise UserError(
            f"Timing against onnxruntime needs {', '.join(missing)}. Install: pip install "
            "'kerasft[onnx]'"
        )
    if onnx is None and missing:
        notes.append(f"onnxruntime was not timed: {', '.join(missing)} is not installed.")
    return onnx is not False and not missing


def _write(
    file: Path, requests: Sequence[Golden], batches: Sequence[int], names: Mapping[str, str]
) -> None:
    """Write a batch of each size, made of golden requests over and over."""
    largest = max(requests, key=lambda one: len(next(iter(one.inputs.values()))))
    arrays = {}
    for size in batches:
        for key, value in largest.inputs.items():
            rows = np.arange(size) % len(value)
            chosen = value[rows]
            arrays[f"{size}/{names[key]}"] = (
                chosen.astype("S") if chosen.dtype == object else chosen
            )
    np.savez(file, **arrays)  # type: ignore[arg-type]


def _convert(
    export: Export, file: Path, output: str, requests: Sequence[Golden], tolerance: float,
    notes: list[str],
) -> bool:
    """Write the network as ONNX, and see that it gives what the export gives."""
    command = [sys.executable, onnx_twin.__file__, str(export.directory.resolve()), str(file),
               output]
    done = subprocess.run(
        command, capture_output=True, timeout=SECONDS, check=False, env=fresh_environment()
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        notes.append(f"onnxruntime was not timed: the network cannot be converted ({said}).")
        return False
    import onnxruntime

    run = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run
    worst = max(apart(run([output], dict(one.inputs))[0], one.outputs[output]) for one in requests)
    if not worst <= tolerance:
        notes.append(f"onnxruntime was not timed: its answers differ by {worst:.3g}.")
        return False
    return True


class Engine:
    """A process that times one engine."""

    def __init__(self, name: str, process: subprocess.Popen):
        self.name, self.process = name, process

    def order(self, batch: int, seconds: float) -> list[float]:
        """Let it run batches for a while; return how long each took."""
        self._stream("stdin").write(f"{batch} {seconds}\n")
        self._stream("stdin").flush()
        return json.loads(self.line())

    def line(self) -> str:
        """Return the next line that it says."""
        line = self._stream("stdout").readline()
        if not line:
            said = self._stream("stderr").read().strip().splitlines()[-3:]
            raise UserError(f"The timing of {self.name} ended early: {' '.join(said)}")
        return line

    def _stream(self, name: str) -> Any:
        return getattr(self.process, name)


@contextmanager
def _engine(name: str, arguments: list[str]) -> Iterator[Engine]:
    process = subprocess.Popen(
        [sys.executable, "-P", stopwatch.__file__, *arguments], text=True, env=fresh_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        engine = Engine(name, process)
        while not engine.line().startswith("ready"):
            pass
        yield engine
    finally:
        process.kill()
        process.communicate()


def _rounds(
    running: Mapping[str, Engine], batches: Sequence[int], seconds: float
) -> dict[tuple[str, int], list[list[float]]]:
    """Let the engines take turns; return the times of each round by engine and batch size."""
    taken: dict[tuple[str, int], list[list[float]]] = {}
    for turn in range(ROUNDS):
        for size in batches:
            # The one that began the last round ends this one.
            names = list(running) if turn % 2 == 0 else list(running)[::-1]
            for name in names:
                times = running[name].order(size, seconds / ROUNDS)
                taken.setdefault((name, size), []).append(times)
    return taken


def _timings(
    taken: Mapping[tuple[str, int], list[list[float]]], batches: Sequence[int]
) -> list[Timing]:
    found = []
    for name in dict.fromkeys(name for name, _ in taken):
        for size in batches:
            rounds = taken[name, size]
            times = np.concatenate(rounds)
            ratio = None
            if name == "tensors" and ("onnx", size) in taken:
                others = taken["onnx", size]
                ratio = float(np.median([
                    np.median(mine) / np.median(theirs)
                    for mine, theirs in zip(rounds, others, strict=True)
                ]))  # fmt: skip
            p50, p95, p99 = (float(np.quantile(times, q)) for q in (0.5, 0.95, 0.99))
            found.append(Timing(
                name, ENGINES[name], size, len(times), p50, p95, p99,
                float(size / times.mean()), ratio,
            ))  # fmt: skip
    return found


def as_text(timings: Sequence[Timing], notes: Sequence[str]) -> str:
    """Return the timings as a table."""
    from kerasft.system.console import table

    rows = [
        [t.what, t.engine, t.batch, f"{t.p50 * 1e3:.2f}", f"{t.p95 * 1e3:.2f}",
         f"{t.p99 * 1e3:.2f}", f"{t.per_second:,.0f}", t.runs,
         "" if t.ratio is None else f"{t.ratio:.2f}"]
        for t in timings
    ]
    header = ["what", "engine", "batch", "p50 ms", "p95 ms", "p99 ms", "examples/s", "runs",
              "x onnxruntime"]
    return "\n".join([table(rows, header), *notes])
