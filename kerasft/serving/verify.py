"""`kerasft verify`: all that an export promises, checked on the export itself, offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.artifact.comparison import aligned, differs, rows_apart, rule_for, rules_of
from kerasft.artifact.digests import digests
from kerasft.artifact.fresh import Answers, ask
from kerasft.artifact.golden import Golden, read_golden
from kerasft.artifact.layout import (
    CARD,
    DEFAULT,
    EXTRA,
    GOLDEN,
    LABELS,
    PARITY,
    SIGNATURE,
    WARMUP,
    find_export,
    read_signature,
    version_of,
)
from kerasft.errors import UserError, in_short, some
from kerasft.serving import c_loader, ops
from kerasft.serving.loading import require_files
from kerasft.serving.status import Failure, in_words
from kerasft.system.files import read_json

OK, FAILED, SKIPPED, WARNING = "ok", "FAILED", "skipped", "warning"
REPEATS = 20
_HALF = {"float16", "bfloat16"}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        check: What was looked at.
        result: `"ok"`, `"FAILED"`, `"warning"` or `"skipped"`.
        words: What was found.
    """

    check: str
    result: str
    words: str

    def to_dict(self) -> dict[str, str]:
        """Return it as plain values."""
        return asdict(self)


class Export:
    """An export as the checks look at it; each part is read once, when it is first needed.

    Args:
        directory: The folder of a version.

    Raises:
        UserError: If it holds a pipe or a device, which would be read without end.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        try:
            require_files(directory)
        except OSError as error:
            raise UserError(
                f"The export at {str(directory)!r} cannot be read: {error}. Export the run again: "
                "kerasft export RUN"
            ) from error

    @cached_property
    def signature(self) -> dict[str, Any]:
        return read_signature(self.directory)

    @cached_property
    def graph(self) -> Any:
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf import saved_model_pb2

        file = self.directory / "saved_model.pb"
        try:
            saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
            return next(g for g in saved.meta_graphs if "serve" in g.meta_info_def.tags)
        except (DecodeError, OSError, StopIteration) as error:
            raise UserError(f"{file.name} cannot be read: {in_short(error)}") from error

    @cached_property
    def definitions(self) -> dict[str, Any]:
        found = self.graph.signature_def
        return {name: one for name, one in found.items() if not name.startswith("__")}

    @cached_property
    def golden(self) -> tuple[list[Golden], float]:
        return read_golden(self.directory)

    @cached_property
    def calls(self) -> list[tuple[str, Mapping[str, np.ndarray]]]:
        return [(one.signature, one.inputs) for one in self.golden[0]]

    @cached_property
    def answers(self) -> Answers:
        return ask(self.directory, self.calls, repeats=REPEATS)


def verify(path: str | Path) -> list[Finding]:
    """Check an export.

    Args:
        path: The folder of a version, or its parent, of which the highest version is taken.

    Returns:
        What each check found, in order. A check that cannot be made for what an earlier one
        found has failed, too.

    Raises:
        UserError: If there is no export at `path`, or it holds what is no file.

    Example:
        >>> [f.check for f in verify("served/films") if f.result == "FAILED"]  # doctest: +SKIP
        []
    """
    export = Export(find_export(path))
    found: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            found += [Finding(name, *one) for one in check(export)]
        except UserError as error:
            found.append(Finding(name, FAILED, "; ".join(error.problems)))
    return found


Found = Iterator[tuple[str, str]]


def _files(export: Export) -> Found:
    """The files are there, belong together, and are those that were proved."""
    root, extra = export.directory, export.directory / EXTRA
    problems = []
    if version_of(root.resolve().name) is None:
        problems.append(f"its folder {root.name!r} is no number, so that no server looks at it")
    for file in ("variables/variables.index", CARD, f"{EXTRA}/{SIGNATURE}", f"{EXTRA}/{LABELS}",
                 f"{EXTRA}/{PARITY}", f"{EXTRA}/{GOLDEN}"):  # fmt: skip
        if not (root / file).is_file():
            problems.append(f"{file} is missing")
    labels = export.signature["labels"]
    if (extra / LABELS).is_file():
        listed = (extra / LABELS).read_text("utf-8", errors="replace").split("\n")[:-1]
        if listed != labels:
            problems.append(f"{LABELS} and {SIGNATURE} list other labels")
    # The task says which of its outputs have a value for each label: no name does.
    each = {name for name, rule in rules_of(export.signature).items() if rule.each}
    for name, one in export.signature["signatures"].items():
        for output in sorted(one["outputs"].keys() & each):
            width = (one["outputs"][output]["shape"] or [None])[-1]
            if width is not None and width != len(labels):
                problems.append(f"{name} gives {width} values of {output} for {len(labels)} labels")
    if problems:
        yield FAILED, "; ".join(problems)
    else:
        yield OK, f"version {root.resolve().name}, {len(labels)} labels"


def _proof(export: Export) -> Found:
    """It was proved, and nothing has changed since."""
    report = read_json(export.directory / EXTRA / PARITY, "passed", "digests")
    if report["passed"] is not True:
        yield FAILED, f"{PARITY} says that it did not pass"
        return
    now = digests(export.directory)
    before = report["digests"]
    changed = sorted(k for k in {*now, *before} if now.get(k) != before.get(k))
    if changed:
        yield FAILED, f"changed since it was proved: {', '.join(changed)}"
    else:
        yield OK, f"{len(now)} files are as they were when {report['examples']} examples passed"


def _signatures(export: Export) -> Found:
    """The graph has the signatures that are told, in the form that a server takes."""
    import tensorflow as tf

    problems = []
    told, there = export.signature["signatures"], export.definitions
    for name in sorted(set(told) ^ set(there)):
        problems.append(f"{name} is {'told' if name in told else 'there'} and not "
                        f"{'there' if name in told else 'told'}")
    for name in sorted(set(told) & set(there)):
        method = there[name].method_name.removeprefix("tensorflow/serving/")
        if method != told[name]["method"]:
            problems.append(f"{name} answers {method}, not {told[name]['method']}")
        for way in ("inputs", "outputs"):
            tensors = getattr(there[name], way)
            specs = {
                key: {"dtype": tf.as_dtype(t.dtype).name, "shape": _shape(t.tensor_shape)}
                for key, t in tensors.items()
            }
            if specs != told[name][way]:
                problems.append(f"the {way} of {name} are not those that {SIGNATURE} tells")
            for key, spec in specs.items():
                problems += [f"{name}: {problem}" for problem in _unfit(key, spec)]
    if problems:
        yield FAILED, "; ".join(problems)
    else:
        yield OK, ", ".join(f"{name} ({one['method']})" for name, one in told.items())


def _shape(shape: Any) -> list[int | None] | None:
    if shape.unknown_rank:
        return None
    return [None if dim.size < 0 else dim.size for dim in shape.dim]


def _unfit(key: str, spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a server could not do with an input or an output."""
    shape = spec["shape"]
    if not shape or shape[0] is not None:
        yield f"{key} has no batch of any size as its first dimension"
    if spec["dtype"] in _HALF:
        yield f"{key} is {spec['dtype']}, which JSON has no words for"


def _operations(export: Export) -> Found:
    """TensorFlow has every operation of the graph, as far as the installed one can tell."""
    import tensorflow as tf

    core, text = ops.linked()
    nodes = list(ops.nodes_of(export.graph))
    used = {node.op for node in nodes} - ops.functions_of(export.graph)
    strange = sorted((used - core - text) | (used & ops.PYTHON))
    if strange:
        yield FAILED, (
            f"a server does not have {', '.join(strange)}, nor has the installed TensorFlow "
            f"{tf.__version__}"
        )
    else:
        late = {ops.LATE[name] for name in used if name in ops.LATE}
        which = f", {len(used & text)} of them TensorFlow Text's" if used & text else ""
        least = f"; TensorFlow Serving {max(late)} or later" if late else ""
        written = export.graph.meta_info_def.tensorflow_version
        yield OK, (
            f"{len(used)} kinds{which}, all known to the installed TensorFlow {tf.__version__}"
            f"{least}; written by TensorFlow {written}{ops.promised(written)}"
        )
    if reach := sorted(used & ops.FILES):
        yield WARNING, f"reaches beyond the artifact: {', '.join(reach)}"
    if any("_XlaMustCompile" in node.attr for node in nodes):
        yield WARNING, (
            "parts must be compiled by XLA while they run, which a server must have been built for"
        )


def _replay(export: Export) -> Found:
    """Golden requests get their answers in a fresh process without Keras."""
    golden, tolerance = export.golden
    if not golden:
        yield SKIPPED, "it holds no golden requests"
        return
    if errors := [error for error in export.answers.errors if error]:
        yield FAILED, f"a golden request fails: {in_words(errors[0]).splitlines()[0]}"
        return
    yield _compared(golden, export.answers.outputs, tolerance, export.signature)


def _compared(
    golden: list[Golden], answers: list[dict[str, np.ndarray]], tolerance: float,
    signature: Mapping[str, Any],
) -> tuple[str, str]:
    worst: dict[str, float] = {}
    problems, rules = [], rules_of(signature)
    ties: set[tuple[int, int]] = set()
    for number, (one, outputs) in enumerate(zip(golden, answers, strict=True)):
        if outputs.keys() != one.outputs.keys():
            problems.append(f"{one.signature} gives other outputs than when it was proved")
            continue
        outputs = aligned(outputs, one.outputs, rules, tolerance)
        for name, wanted in one.outputs.items():
            rule = rule_for(name, wanted, rules)
            difference = differs(rule, outputs[name], wanted)
            worst[one.signature] = max(worst.get(one.signature, 0.0), difference)
            passes = difference <= tolerance
            if not rule.by_amount:  # another label passes where it was as likely
                near = rule.near(one.outputs, len(wanted), tolerance)
                passes = outputs[name].shape == wanted.shape
                if passes:
                    others = rows_apart(outputs[name], wanted)
                    passes = not (others & ~near).any()
                    ties |= {(number, row) for row in np.flatnonzero(others & near).tolist()}
            if not passes:
                problems.append(f"{one.signature}: {name} differs by {difference:.3g}")
    if problems:
        return FAILED, "; ".join(dict.fromkeys(problems))
    told = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    near_ties = f"; {some(len(ties), 'answer')} other than then, by a near tie" if ties else ""
    return OK, f"{len(golden)} golden requests; largest difference: {told}{near_ties}"


def _warm_up(export: Export) -> Found:
    """A server can replay the warm-up requests, all of them."""
    if not (export.directory / EXTRA / WARMUP).is_file():
        yield SKIPPED, "it holds no warm-up requests"
        return
    if importlib.util.find_spec("tensorflow_serving") is None:
        yield SKIPPED, (
            "reading them needs TensorFlow Serving's messages: pip install 'kerasft[serve]'"
        )
        return
    from kerasft.serving.bundle import MOST_WARM_UP, Bundle, warm_up_requests

    try:
        count = sum(1 for _ in warm_up_requests(export.directory))
        if count > MOST_WARM_UP:
            yield FAILED, f"{count:,} requests, of which a server takes {MOST_WARM_UP:,} at most"
            return
        with closing(Bundle(export.directory, 1)) as bundle:
            bundle.warm_up()
    except Failure as failure:
        yield FAILED, f"a request cannot be replayed: {failure.words}"
    except Exception as error:  # whatever TensorFlow has against the file or the graph
        yield FAILED, f"they cannot be read or replayed: {in_short(error)}"
    else:
        yield OK, f"{count} requests, replayed on the graph"


def _speed(export: Export) -> Found:
    """How long it takes, and how much memory."""
    golden, _ = export.golden
    times: dict[int, list[float]] = {}
    for one, seconds in zip(golden, export.answers.seconds, strict=True):
        if one.signature == DEFAULT:
            size = len(next(iter(one.inputs.values())))
            times.setdefault(size, []).extend(seconds[1:])  # the first one warms up
    if not times:
        yield SKIPPED, f"it holds no golden requests of {DEFAULT}"
        return
    said = ", ".join(
        f"batch {size}: {np.median(t) * 1e3:.1f} ms (p95 {np.quantile(t, 0.95) * 1e3:.1f})"
        for size, t in sorted(times.items())
    )
    before, loaded, end = (size / 1e6 for size in export.answers.memory)
    yield OK, (
        f"{said}; loads in {export.answers.load_seconds:.1f} s; {loaded - before:.0f} MB when "
        f"loaded, {end - before:.0f} MB when asked"
    )


def _c_api(export: Export) -> Found:
    """Golden requests get their answers through the C API, the loader of a server."""
    golden, tolerance = export.golden
    if not golden:
        yield SKIPPED, "it holds no golden requests"
        return
    try:
        answers = c_loader.ask_by_c(
            export.directory.resolve(), export.definitions, export.calls,
            text=export.signature["modality"] == "text",
        )
    except c_loader.NotHere as reason:
        yield SKIPPED, str(reason)
        return
    yield _compared(golden, answers, tolerance, export.signature)


CHECKS: dict[str, Callable[[Export], Found]] = {
    "files": _files,
    "proof": _proof,
    "signatures": _signatures,
    "operations": _operations,
    "replay": _replay,
    "warm-up": _warm_up,
    "speed": _speed,
    "C API": _c_api,
}
