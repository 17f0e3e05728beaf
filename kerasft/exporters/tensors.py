"""What the formats share that take tensors instead of raw input."""

from __future__ import annotations

import errno
import glob
import importlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import kerasft
from kerasft.artifact.comparison import PADDING, differs, filled_up, rows_apart, rule_for
from kerasft.artifact.fresh import ExportError
from kerasft.contracts import Choosing, Task, lacking, odd_units
from kerasft.errors import UserError
from kerasft.exporters.versions import STALE
from kerasft.raw_input import as_raw
from kerasft.spec import Labels, Preprocess, Tensors
from kerasft.system.files import at_home, disk_space_in, exchange, read_json, write_json

if TYPE_CHECKING:
    import keras

PARITY, PREPROCESSING, README = "parity.json", "preprocessing.json", "README.md"
# Examples that are answered together, and how many are answered once more by themselves.
BATCH, SINGLY = 8, 2

# What follows the name of an export where it is written.
_PART = "-part-"
# What renaming says where a folder, or a link to one, has the name already.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)

Feed = dict[str, np.ndarray]


@contextmanager
def placed(directory: str | Path, form: str) -> Iterator[Path]:
    """Write an export beside its place, and put it there when it is whole.

    Args:
        directory: Where it shall lie. An earlier export of the same format is replaced.
        form: The name of the format.

    Yields:
        The folder to write to.

    Raises:
        UserError: If something else lies there, or nothing can be written.
    """
    final = at_home(directory)
    if final.exists() and not _is_ours(final, form):
        raise UserError(
            f"The export {form} goes to {str(final)!r}, and something else lies there. It replaces "
            f"only what it wrote itself (a folder whose {PARITY} says format {form}). "
            f"Received: {_what(final)}. Move it away, or choose another folder."
        )
    beside = None
    try:
        with disk_space_in(final.parent):
            final.parent.mkdir(parents=True, exist_ok=True)
            _clear_stale(final)
            beside = Path(tempfile.mkdtemp(prefix=f".{final.name}{_PART}", dir=final.parent))
            part = beside / "new"
            part.mkdir()
            yield part
            _swap(part, final, beside / "before")
    except OSError as error:
        raise UserError(
            f"The export cannot be written to {str(final)!r}: {error.strerror or error}. Choose "
            "another folder."
        ) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _swap(part: Path, final: Path, before: Path) -> None:
    """Put a folder into its place; what was there stays if that fails or the process is ended."""
    try:
        part.rename(final)
        return
    except OSError as error:
        if error.errno not in _TAKEN:  # else an export is there, perhaps since a moment ago
            raise
    if exchange(part, final):
        return
    final.rename(before)
    try:
        part.rename(final)
    except OSError:
        before.rename(final)
        raise


def _clear_stale(final: Path) -> None:
    """Clear what killed exports left; the export that one had moved aside goes back."""
    for left in final.parent.glob(f".{glob.escape(final.name)}{_PART}*"):
        with suppress(FileNotFoundError):  # another export has ended meanwhile
            if time.time() - left.stat().st_mtime <= STALE:
                continue
            if (left / "before").is_dir() and not final.exists():
                (left / "before").rename(final)
            shutil.rmtree(left, ignore_errors=True)


def _is_ours(folder: Path, form: str) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return read_json(folder / PARITY, "format")["format"] == form
    except UserError:
        return False


def _what(place: Path) -> str:
    if not place.is_dir():
        return "a file"
    return f"a folder with {', '.join(sorted(p.name for p in place.iterdir())[:5])}"


def require_whole(model: keras.Model, task: Task, labels: Labels) -> None:
    """See that network, task and labels belong together."""
    if "answers" in lacking(task):
        raise UserError(
            "An export needs the task of its network, which turns outputs into answers (such as "
            f"kerasft.tasks.classification.Classification). Received: {task!r}."
        )
    if (units := odd_units(model, task, labels)) is not None:
        raise UserError(
            f"The network has {units} outputs, and there are {len(labels.names)} labels "
            f"({', '.join(labels.names[:8])}). The run folder's files do not belong together."
        )


def require(module: str, extra: str) -> Any:
    """Import a package that only this format needs.

    Raises:
        UserError: If it is not installed; with the command that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"export={extra} needs the package {module.partition('.')[0]}, which cannot be "
            f"imported ({error}). Install it: pip install 'kerasft[{extra}]'"
        ) from error


def feeds(preprocess: Preprocess, examples: Sequence[Any]) -> list[Feed]:
    """Return raw examples as the network's inputs: in batches, and the first few one by one.

    So that other sizes of a batch, and for texts other lengths, are tried as well.

    Args:
        preprocess: From raw examples to tensors.
        examples: Raw examples, or paths of images.

    Returns:
        Name of an input to array `[batch, ...]`, for each batch.
    """
    import tensorflow as tf

    raw = as_raw(examples, preprocess.modality).tolist()
    parts = [raw[i : i + BATCH] for i in range(0, len(raw), BATCH)]
    parts += [[one] for one in raw[:SINGLY]]
    with tf.device("/CPU:0"):
        return [as_feed(preprocess(part)) for part in parts]


def as_feed(inputs: Tensors) -> Feed:
    """Return what a preprocessing gave as named arrays."""
    if not isinstance(inputs, Mapping):
        inputs = {"images": inputs}
    return {name: np.asarray(value) for name, value in inputs.items()}


def padded(feed: Feed, length: int, pad: int) -> Feed:
    """Return texts with as many positions as `length`."""
    made = {}
    for name, value in feed.items():
        room = ((0, 0), (0, length - value.shape[1]))
        made[name] = np.pad(value, room, constant_values=pad if name == "token_ids" else 0)
    return made


def answerer(
    model: keras.Model, task: Task, labels: Labels, names: Sequence[str], *, chosen: bool = True
) -> Callable[..., Any]:
    """Return a function of the network's inputs, in order, to its numeric outputs by name.

    Of the task's outputs `probabilities`, or all that are numbers without any; and `logits`, where
    the network puts out one tensor. Names of labels are left to `preprocessing.json`: these formats
    have no strings.

    Args:
        model: The network.
        task: Turns its outputs into answers.
        labels: What the labels mean.
        names: The network's inputs.
        chosen: Whether a task that is `Choosing` gives its answers, or what they are chosen of.
    """
    import tensorflow as tf

    named = isinstance(model.input, Mapping)

    def answer(*tensors: Any) -> dict[str, Any]:
        given = dict(zip(names, tensors, strict=True)) if named else tensors[0]
        outputs = model(given, training=False)
        if not isinstance(outputs, Mapping | list | tuple):
            outputs = tf.cast(outputs, tf.float32)
        if isinstance(task, Choosing) and not chosen:
            return dict(task.candidates(outputs, labels))
        answers = task.answers(outputs, labels)
        numbers = {n: v for n, v in answers.items() if v.dtype.is_numeric}
        kept = {n: numbers[n] for n in ("probabilities",) if n in numbers} or numbers
        return {**kept, "logits": outputs} if tf.is_tensor(outputs) else kept

    return answer


def by_token(model: keras.Model) -> bool:
    """Tell whether a network for texts puts out something for each token."""
    import keras

    inputs = model.input if isinstance(model.input, Mapping) else {}
    return "padding_mask" in inputs and any(
        len(one.shape) == 3 and one.shape[1] is None for one in keras.tree.flatten(model.output)
    )


def concatenate(
    parts: Sequence[Mapping[str, Any]], batches: Sequence[Feed] | None = None
) -> Feed:
    """Join the outputs of several batches.

    Args:
        parts: The outputs of each.
        batches: The inputs of each, of a network that is `by_token`: what it says behind the last
            token of a text becomes `PADDING`, and texts are filled up to the longest.
    """
    if batches is not None:
        parts = [{name: _where_tokens(np.asarray(value), feed) for name, value in part.items()}
                 for part, feed in zip(parts, batches, strict=True)]  # fmt: skip
    return {name: np.concatenate(filled_up([np.asarray(p[name]) for p in parts]))
            for name in parts[0]}  # fmt: skip


def _where_tokens(value: np.ndarray, feed: Feed) -> np.ndarray:
    real = feed["padding_mask"].astype(bool)
    if value.shape[:2] != real.shape:
        return value
    return np.where(real.reshape(*real.shape, *[1] * (value.ndim - 2)), value,
                    np.array(PADDING, value.dtype))  # fmt: skip


def in_memory(
    model: keras.Model, task: Task, labels: Labels, batches: Sequence[Feed], *, chosen: bool = True
) -> Feed:
    """Return what the network in memory answers, on the processor; see `answerer`."""
    import tensorflow as tf

    answer = answerer(model, task, labels, list(batches[0]), chosen=chosen)
    with tf.device("/CPU:0"):
        parts = [answer(*(tf.constant(v) for v in feed.values())) for feed in batches]
    return concatenate(parts, batches if by_token(model) else None)


def compare(
    expected: Mapping[str, np.ndarray],
    answers: Mapping[str, np.ndarray],
    *,
    task: Task,
    labels: Labels,
    tolerance: float,
    judge_logits: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Compare what an export answers with what the network in memory does.

    Args:
        expected: Outputs of the network by name, each `[N, ...]`.
        answers: Outputs of the export.
        task: Says how each output is compared.
        labels: What the labels mean.
        tolerance: The largest difference that passes; for outputs beyond 1 in size, relative to
            the largest expected value.
        judge_logits: Whether logits count too, or are only told.

    Returns:
        `tolerance`, `largest_difference` by output, `label_flips` (examples with another label)
        and `ties` (those of them that lay within the tolerance of another label); and what is
        wrong, in words.
    """
    differences, problems = {}, []
    rules = task.outputs(labels)
    by_length = any(rule.padded for rule in rules.values())
    for name, wanted in expected.items():
        got, rule = np.asarray(answers.get(name, np.zeros(0))), rule_for(name, wanted, rules)
        if by_length:  # texts may be filled up to other lengths
            got, wanted = filled_up([got, wanted])
        if got.shape != wanted.shape:
            problems.append(f"{name} has the shape {got.shape} instead of {wanted.shape}")
            continue
        worst = differences[name] = differs(rule, got, wanted)
        if not worst <= tolerance and (judge_logits or name != "logits"):
            problems.append(f"{name} differs by {worst:.3g}, more than {tolerance:g}")
    count = len(next(iter(expected.values())))
    flipped, near = np.zeros(count, bool), np.zeros(count, bool)
    for rule in rules.values():
        if rule.rule == "decided" and rule.by in differences:
            wanted, got = (np.asarray(side[rule.by]) for side in (expected, answers))
            flipped |= rows_apart(rule.decide(got), rule.decide(wanted))
            near |= rule.near(expected, count, tolerance)
    flips, ties = int(flipped.sum()), int((flipped & near).sum())
    if flips > ties:
        problems.append(f"{flips} of {count} answers get another label")
    report = {
        "tolerance": tolerance, "largest_difference": differences, "label_flips": flips,
        "ties": ties,
    }  # fmt: skip
    return report, problems


def refuse(form: str, problems: Sequence[str], count: int, advice: str = "") -> None:
    """Raise an error that says what is wrong, if anything is."""
    if problems:
        raise ExportError(
            f"export={form}: what was written disagrees with the network in memory on {count} "
            f"examples: {'; '.join(problems)}. It is not kept. {advice}".strip()
        )


def write_parity(folder: Path, form: str, report: Mapping[str, Any], count: int) -> None:
    """Write the figures; by them a folder is known as ours."""
    versions = {"kerasft": kerasft.__version__}
    for name in ("tensorflow", "keras"):
        versions[name] = importlib.import_module(name).__version__
    write_json(folder / PARITY, {"format": form, "examples": count, **report,
                                 "versions": versions})


def bytes_of(place: str | Path) -> int:
    """Return how many bytes a file, or all files of a folder, hold."""
    place = Path(place)
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def bytes_of_weights(model: keras.Model) -> int:
    """Return how many bytes the weights of a network take as they are kept."""
    import tensorflow as tf

    return sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in model.variables)


@contextmanager
def quietly() -> Iterator[Callable[[], str]]:
    """Keep what converters print from the terminal.

    Yields:
        A function that returns what was printed so far.
    """
    import sys

    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(file.fileno(), number)

            def said() -> str:
                file.seek(0)
                return file.read().decode(errors="replace")

            yield said
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
