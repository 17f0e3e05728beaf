"""What an artifact can be asked: each signature as a function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.abilities import Generates
from kerasft.artifact.layout import DEFAULT
from kerasft.contracts import Rephrasing, Scored, Task
from kerasft.errors import UserError, nearest
from kerasft.exporters.served import POOLED, SEED, Served, seeds_of
from kerasft.spec import Tensors

if TYPE_CHECKING:
    import tensorflow as tf

EMBED, SAMPLE = "embed", "sample"


@dataclass(frozen=True)
class Signature:
    """One of the functions of an artifact.

    Args:
        method: `"predict"`, `"classify"` or `"regress"`: the calls of TensorFlow Serving that it
            answers.
        takes: `"raw"`, `"tensors"` or `"examples"` (serialized `tf.train.Example`).
        inputs: The `tf.TensorSpec` of each input, by name.
        answer: Takes the inputs in that order, and returns the outputs by name.
    """

    method: str
    takes: str
    inputs: Mapping[str, Any]
    answer: Callable[..., Mapping[str, Any]]


def signatures_of(served: Served, wanted: Sequence[str] | None = None) -> dict[str, Signature]:
    """Return the signatures of a model by name.

    Args:
        served: The model with what stands before and after it.
        wanted: The names of signatures; all that this model can have where `None`.

    Raises:
        UserError: For a name that there is not, or not for this model.
    """
    possible = _possible(served)
    if wanted is None:
        return possible
    require_names(wanted, served.task)
    if EMBED in wanted and EMBED not in possible:
        raise UserError(
            f"export: the signature {EMBED!r} gives the output of a layer {POOLED!r}, which the "
            f"heads of kerasft have; this head has none. Allowed: {', '.join(possible)}."
        )
    return {name: made for name, made in possible.items() if name in (DEFAULT, *wanted)}


def names_for(task: Task) -> tuple[str, ...]:
    """Return the signatures that a task's models may have; `embed` needs a head that has it."""
    names = [DEFAULT, "tensors"]
    if isinstance(task, Generates):
        names += ["score", "generate", "next"]
        names += [SAMPLE] * task.draws
    if isinstance(task, Rephrasing):
        names += task.forms
    if isinstance(task, Scored):
        names.append(task.method)
    return (*names, EMBED)


def require_names(wanted: Sequence[str] | None, task: Task) -> None:
    """See that signatures are some that a task's models may have.

    Raises:
        UserError: If one is not.
    """
    allowed = names_for(task)
    problems = [
        f"export: the task {type(task).__name__} has no signature {name!r}. Allowed: "
        f"{', '.join(allowed)}.{nearest(str(name), allowed)}"
        + (" Answers are drawn where task.generate.temperature is above 0."
           if name == SAMPLE and isinstance(task, Generates) else "")
        for name in wanted or () if name not in allowed
    ]  # fmt: skip
    if problems:
        raise UserError(problems=problems)


def _possible(served: Served) -> dict[str, Signature]:
    import tensorflow as tf

    raw = {name: tf.TensorSpec([None], tf.string, name=name) for name in served.names}
    tensors = {
        name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=name)
        for name, tensor in _by_name(_symbolic(served)).items()
    }
    example = {"inputs": tf.TensorSpec([None], tf.string, name="inputs")}

    def ready(*columns: Any) -> Any:
        return served.ready(_one(columns))

    def answer_raw(*columns: Any) -> Mapping[str, Any]:
        return answer_framed(*columns)[0] if served.framed else served.answers(
            outputs(ready(*columns)))  # fmt: skip

    def answer_framed(*columns: Any) -> tuple[Mapping[str, Any], Any]:
        inputs, frames = served.placed(_one(columns))
        return served.in_input(served.answers(outputs(inputs)), frames), frames

    def from_tensors(*columns: Any) -> Any:
        named = dict(zip(tensors, columns, strict=True))
        return named["images"] if list(named) == ["images"] else named

    def answer_tensors(*columns: Any) -> Mapping[str, Any]:
        inputs = from_tensors(*columns)
        return served.by_token(served.answers(outputs(inputs)), inputs)

    def from_examples(serialized: tf.Tensor) -> Any:
        feature = tf.io.FixedLenFeature([], tf.string)
        parsed = tf.io.parse_example(serialized, dict.fromkeys(served.names, feature))
        return ready(*(parsed[name] for name in served.names))

    def outputs(batch: Tensors) -> Any:
        return served.model(batch, training=False)

    made = {
        DEFAULT: Signature("predict", "raw", raw, answer_raw),
        "tensors": Signature("predict", "tensors", tensors, answer_tensors),
    }  # fmt: skip
    if served.writes:
        write = served.writer()
        made["score"] = Signature("predict", "raw", raw, answer_raw)
        made["next"] = Signature("predict", "raw", raw, served.likeliest())
        made[DEFAULT] = made["generate"] = Signature("predict", "raw", raw, write)
        if SAMPLE in names_for(served.task):
            seed = {SEED: tf.TensorSpec([None], tf.int64, name=SEED)}
            made[SAMPLE] = Signature("predict", "raw", {**raw, **seed}, write)
    for form in served.forms:
        made[form] = Signature("predict", "raw", raw, lambda *x, form=form: served.rephrased(
            form, *answer_framed(*x)
        ))  # fmt: skip
    if isinstance(served.task, Scored):
        made[served.task.method] = Signature(
            served.task.method, "examples", example,
            lambda x: served.scored(served.answers(outputs(from_examples(x)))),
        )
    embedder = served.embedder()
    if embedder is not None:
        made[EMBED] = Signature("predict", "raw", raw, lambda *x: {
            "embedding": tf.cast(embedder(ready(*x)), tf.float32)
        })  # fmt: skip
    return made


def _one(columns: Sequence[Any]) -> Any:
    """Return the raw inputs as one tensor: `[batch]`, or `[batch, 2]` for pairs."""
    import tensorflow as tf

    return columns[0] if len(columns) == 1 else tf.stack(columns, axis=-1)


def _symbolic(served: Served) -> Any:
    """Return what the preprocessing gives for a batch of any size, as specs."""
    import tensorflow as tf

    shape = [None, 2] if len(served.names) == 2 else [None]
    traced = tf.function(served.ready, autograph=False).get_concrete_function(
        tf.TensorSpec(shape, tf.string)
    )
    return traced.structured_outputs


def inputs_of(served: Served, name: str, raw: np.ndarray) -> dict[str, np.ndarray]:
    """Return raw examples as the inputs of a signature: one batch."""
    import tensorflow as tf

    if name == "tensors":
        made = served.ready(tf.constant(raw.tolist()))
        return {k: v.numpy() for k, v in _by_name(made).items()}
    columns = dict(zip(
        served.names, [raw] if raw.ndim == 1 else [raw[:, i] for i in range(raw.shape[1])],
        strict=True,
    ))  # fmt: skip
    if name == SAMPLE:
        return {**columns, SEED: np.array(seeds_of(raw.tolist()), np.int64)}
    if name not in ("classify", "regress"):
        return columns
    requests = np.empty(len(raw), object)
    requests[:] = [
        tf.train.Example(features=tf.train.Features(feature={
            key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[values[i]]))
            for key, values in columns.items()
        })).SerializeToString()
        for i in range(len(raw))
    ]  # fmt: skip
    return {"inputs": requests}


def _by_name(batch: Tensors) -> dict[str, Any]:
    """Return the network's input by name; images are `images`."""
    return dict(batch) if isinstance(batch, Mapping) else {"images": batch}
