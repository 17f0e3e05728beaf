"""An ONNX file, for ONNX Runtime and whatever else reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import tensors
from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.tensors import Feed
from kerasft.spec import Labels, Preprocess
from kerasft.system.files import at_home

if TYPE_CHECKING:
    import keras

FORM, FILE = "onnx", "model.onnx"
TOLERANCE = 1e-4
OPSETS = range(13, 19)  # what tf2onnx writes and what the rewriting below is tried with
NOT_RAW = "ONNX, up to this opset, has no operators that tokenize texts or decode images"
MOST_BYTES = 2**31 - 2**20  # a protobuf message holds no more


def onnx_file(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any] | None = None,
    name: str = "model",
    opset: int = 18,
    tolerance: float = TOLERANCE,
) -> Path:
    """Write an ONNX file and prove it on examples in ONNX Runtime.

    It takes tensors, any number of examples at once, texts of any length. `preprocessing.json`
    beside it says how to make them, and `tokenizer/` holds the vocabulary. The outputs are
    `probabilities` (or `value`) and `logits`.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: The folder to write; an earlier export of this format is replaced.
        preprocess: Turns raw examples into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples to prove the file on.
        name: What the model is called in `preprocessing.json`.
        opset: The version of ONNX' set of operators, 13 to 18.
        tolerance: The largest difference that passes.

    Returns:
        The folder.

    Raises:
        UserError: If an op has no counterpart in ONNX, or the folder holds something else.
        ExportError: If the file disagrees with the model; then nothing is left behind.

    Example:
        >>> onnx_file(model, "films", preprocess=preprocess, task=task, labels=labels,
        ...           examples=["a fine film"])  # doctest: +SKIP
        PosixPath('films')
    """
    check_early(opset=opset)
    if examples is None or not len(examples):
        raise UserError("export=onnx is proved on at least one example. Received: none.")
    tensors.require_whole(model, task, labels)
    size = tensors.bytes_of_weights(model)
    if size > MOST_BYTES:
        raise UserError(
            f"export=onnx: the weights take {size / 2**30:.1f} GiB, and one ONNX file holds less "
            "than 2. Choose export=saved_model."
        )
    runtime = tensors.require("onnxruntime", FORM)
    batches = tensors.feeds(preprocess, examples)
    with tensors.placed(directory, FORM) as folder:
        expected = tensors.in_memory(model, task, labels, batches)
        try:
            with tensors.quietly():
                blob = _convert(model, task, labels, batches[0], opset)
                answers = _run(runtime, blob, batches, tensors.by_token(model))
        except Exception as error:
            higher = "" if opset == OPSETS[-1] else "Try a higher export.onnx.opset, or choose "
            raise UserError(
                f"export=onnx: ONNX with opset {opset} cannot carry this network "
                f"({_first_line(error)}). {higher or 'Choose '}export=saved_model."
            ) from error
        report, problems = tensors.compare(
            expected, answers, task=task, labels=labels, tolerance=tolerance
        )
        tensors.refuse(FORM, problems, len(examples), "This is an op that ONNX Runtime computes "
                       "differently.")
        (folder / FILE).write_bytes(blob)
        write_preprocessing(
            folder, preprocess=preprocess, task=task, labels=labels, feed=batches[0],
            outputs=expected, name=name,
        )
        (folder / tensors.README).write_text(
            _readme(name, preprocess, opset, next(iter(expected))), "utf-8"
        )
        checked = {"opset": opset, "checked_with": f"onnxruntime {runtime.__version__}",
                   "not_raw": NOT_RAW,
                   "sizes": {"weights_in_memory": size, FILE: len(blob)}}
        tensors.write_parity(folder, FORM, {**checked, **report}, len(examples))
    return at_home(directory)


def check_early(*, opset: int = OPSETS[-1], **_: Any) -> None:
    """See before a training that the export can be made."""
    if opset not in OPSETS:
        raise UserError(
            f"export.onnx.opset must be from {OPSETS[0]} to {OPSETS[-1]}. Received: {opset!r}."
        )
    for package in ("onnxruntime", "onnx", "tf2onnx"):
        tensors.require(package, FORM)


def _convert(model: keras.Model, task: Task, labels: Labels, feed: Feed, opset: int) -> bytes:
    import onnx
    import tensorflow as tf
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()  # tf2onnx 1.17 reads names that NumPy 2 has no more; Keras knows which
    names = list(feed)
    text = all(value.ndim == 2 for value in feed.values())
    specs = [
        tf.TensorSpec([None, None] if text else [None, *value.shape[1:]], value.dtype, name=key)
        for key, value in feed.items()
    ]
    answer = tensors.answerer(model, task, labels, names)
    function = tf.function(answer, input_signature=specs, autograph=False)
    made, _ = tf2onnx.convert.from_function(
        function, input_signature=specs, opset=opset,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    # A constant that Keras made outside of the graph comes out as an input that nobody feeds.
    outside = {
        inner.name: outer.numpy()
        for outer, inner in function.get_concrete_function().graph.captures
        if outer.dtype != tf.resource
    }
    for one in [i for i in made.graph.input if i.name in outside]:
        made.graph.initializer.append(onnx.numpy_helper.from_array(outside[one.name], one.name))
        made.graph.input.remove(one)
    _drop_unused(made)
    _name_sides(made, text)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Write `erfc(x)`, which GELU is made of and ONNX lacks, as `1 - erf(x)`."""
    given, (output,) = node.input[0], node.output
    kind, shape = graph.get_dtype(output), graph.get_shape(output)
    graph.remove_node(name)
    erf = graph.make_node("Erf", [given], shapes=[shape], dtypes=[kind])
    one = graph.make_const(f"{name}/one", np.array(1.0, np.float32))
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=[output], shapes=[shape],
        dtypes=[kind],
    )


def _drop_unused(made: Any) -> None:
    """Leave out weights that nothing reads.

    Of those that tf2onnx wrote in another shape it keeps the first, to ask what shape it has.
    """
    import onnx

    nodes = made.graph.node
    if any(a.HasField("g") or a.graphs for node in nodes for a in node.attribute):
        return  # a branch inside may read them
    sides = {one.name: list(one.dims) for one in made.graph.initializer}
    for node in [n for n in nodes if n.op_type == "Shape" and n.input[0] in sides]:
        shape = np.array(sides[node.input[0]], np.int64)
        made.graph.initializer.append(onnx.numpy_helper.from_array(shape, node.output[0]))
        nodes.remove(node)
    read = {name for node in nodes for name in node.input}
    read |= {output.name for output in made.graph.output}
    for one in [i for i in made.graph.initializer if i.name not in read]:
        made.graph.initializer.remove(one)


def _name_sides(made: Any, text: bool) -> None:
    """Call the open sides what they are: tf2onnx numbers them, each input's its own."""
    for one in (*made.graph.input, *made.graph.output):
        sides = one.type.tensor_type.shape.dim
        if sides and not sides[0].dim_value:
            sides[0].dim_param = "batch"
        if text and len(sides) > 1 and not sides[1].dim_value:
            sides[1].dim_param = "positions"


def _run(runtime: Any, blob: bytes, batches: Sequence[Feed], by_token: bool) -> Feed:
    session = runtime.InferenceSession(blob, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return tensors.concatenate(
        [dict(zip(names, session.run(names, feed), strict=True)) for feed in batches],
        batches if by_token else None,
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def _readme(name: str, preprocess: Preprocess, opset: int, output: str) -> str:
    given = "token tensors" if preprocess.modality == "text" else "uint8 pixels"
    return f"""# {name}, as ONNX

`{FILE}` (opset {opset}) takes {given}, not raw {preprocess.modality}: {NOT_RAW}.
`{tensors.PREPROCESSING}` says how they are made, in which order the labels are, and what decides.
What was compared with the network in memory, and how far it differed, is in `{tensors.PARITY}`.

```python
import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
outputs = session.run(["{output}"], inputs)  # {tensors.PREPROCESSING} names both
```
"""
