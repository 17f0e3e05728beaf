"""A `.keras` file with all that is needed to use it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.artifact.comparison import PADDING, filled_up
from kerasft.artifact.fresh import ExportError, fresh_environment
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import reload, tensors
from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.tensors import Feed
from kerasft.spec import Labels, Preprocess
from kerasft.system.files import at_home, write_json

if TYPE_CHECKING:
    import keras

FORM, FILE = "keras", "model.keras"
NOT_RAW = "the preprocessing is TensorFlow's operations, and no layer that Keras saves"
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
SECONDS = 900


def keras_file(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any] | None = None,
    name: str = "model",
    tolerance: float | None = None,
) -> Path:
    """Write the network as a `.keras` file and prove it in a fresh process without kerasft.

    Beside `model.keras` lie `kerasft_layers.py` (the layers of ours in it, which import Keras
    alone), `preprocess/`, `labels.json`, `preprocessing.json` and `parity.json`. Who has Keras and
    KerasHub loads it in safe mode.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: The folder to write; an earlier export of this format is replaced.
        preprocess: Turns raw examples into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples to prove the file on.
        name: What the model is called in `preprocessing.json`.
        tolerance: The largest difference that passes. 1e-4 where not given; 0.02 for a model
            that computes in half precision.

    Returns:
        The folder.

    Raises:
        UserError: If the folder holds something else, or cannot be written.
        ExportError: If the file does not load, or disagrees; then nothing is left behind.

    Example:
        >>> keras_file(model, "films", preprocess=preprocess, task=task, labels=labels,
        ...            examples=["a fine film"])  # doctest: +SKIP
        PosixPath('films')
    """
    if examples is None or not len(examples):
        raise UserError("export=keras is proved on at least one example. Received: none.")
    tensors.require_whole(model, task, labels)
    batches = tensors.feeds(preprocess, examples)
    with tensors.placed(directory, FORM) as folder:
        model.save(folder / FILE)
        modules = carry_layers(model, folder)
        preprocess.save(str(folder / "preprocess"))
        write_json(folder / "labels.json", {"kind": task.kind, "names": list(labels.names)})
        expected = tensors.in_memory(model, task, labels, batches)
        logits = reloaded(folder, FORM, batches, modules=modules)["logits"]
        report, problems = tensors.compare(
            expected, answers_of(logits, task, labels, expected), task=task, labels=labels,
            tolerance=tolerance or (HALF_TOLERANCE if is_half(model) else TOLERANCE),
        )
        tensors.refuse(FORM, problems, len(examples), "A layer of it does not come back alike.")
        write_preprocessing(
            folder, preprocess=preprocess, task=task, labels=labels, feed=batches[0],
            outputs={"logits": expected["logits"]}, name=name,
            tokenizer_in="preprocess/tokenizer",
        )
        (folder / tensors.README).write_text(_readme(name, modules), "utf-8")
        sizes = {"weights_in_memory": tensors.bytes_of_weights(model),
                 FILE: tensors.bytes_of(folder / FILE)}  # fmt: skip
        checked = {"checked_with": "Keras in a fresh process, without kerasft", "sizes": sizes,
                   "not_raw": NOT_RAW}  # fmt: skip
        tensors.write_parity(folder, FORM, {**checked, **report}, len(examples))
    return at_home(directory)


def is_half(model: keras.Model) -> bool:
    """Tell whether any layer computes in 16 bits."""
    return any("16" in str(layer.compute_dtype) for layer in model._flatten_layers())


def carry_layers(model: keras.Model, folder: Path) -> list[str]:
    """Copy the layers of kerasft that a network has beside it.

    Args:
        model: The network.
        folder: Where the file goes.

    Returns:
        The modules to import before the network is loaded: those, and a user's own.
    """
    kinds = {type(layer) for layer in model._flatten_layers(include_self=True)}
    # The networks that it is saved as, out of sight of Keras' tracking.
    inner: Any = model
    while (parts := getattr(inner, "_parts", None)) is not None:
        inner = parts.models["network"]
        kinds.add(type(inner))
    modules = {kind.__module__ for kind in kinds}
    found = []
    for module in sorted(modules):
        root = module.partition(".")[0]
        if root == "kerasft":
            carried = f"kerasft_{module.rpartition('.')[2]}"
            shutil.copyfile(str(sys.modules[module].__file__), folder / f"{carried}.py")
            found.append(carried)
        elif root not in ("keras", "keras_hub"):
            found.append(module)
    return found


def answers_of(logits: np.ndarray, task: Task, labels: Labels, like: Mapping[str, Any]) -> Feed:
    """Return what the task makes of logits, under the names that `like` has.

    Of what there is for each token, nothing is told where `like` has `PADDING`.
    """
    import tensorflow as tf

    with tf.device("/CPU:0"):
        outputs = {**task.answers(tf.constant(logits), labels), "logits": logits}
    found = {key: np.asarray(outputs[key]) for key in like}
    if logits.ndim != 3 or not any(rule.padded for rule in task.outputs(labels).values()):
        return found
    pairs = {key: filled_up([value, like[key]]) for key, value in found.items()}
    return {key: np.where(wanted == PADDING, wanted, value)
            for key, (value, wanted) in pairs.items()}  # fmt: skip


def reloaded(
    folder: Path, form: str, batches: Sequence[Feed], *, modules: Sequence[str] = (),
    task: str | None = None, raw: Sequence[Any] = (), language: Mapping[str, Any] | None = None,
) -> Feed:
    """Load what lies in a folder in a fresh process, and let it answer.

    Args:
        folder: Where the export lies.
        form: `"keras"` or `"preset"`.
        batches: Inputs of the network.
        modules: What is imported before.
        task: The class that a preset is loaded with.
        raw: Raw examples for the preprocessing that a preset carries.
        language: What is asked of a language model, see `reload.py`.

    Returns:
        `logits` for the batches, and `raw` for the raw examples where they were asked for; of a
        language model see `reload.language`.

    Raises:
        ExportError: If it does not load or does not run.
    """
    with tempfile.TemporaryDirectory() as place:
        request, answers = Path(place, "request.json"), Path(place, "answers.npz")
        arrays = {f"{i}/{k}": v for i, feed in enumerate(batches) for k, v in feed.items()}
        np.savez(f"{request}.npz", **arrays)  # type: ignore[arg-type]
        facts = {
            "form": form, "modules": list(modules), "task": task,
            "raw": [encoded(one) for one in raw], "language": language,
        }  # fmt: skip
        request.write_text(json.dumps(facts))
        # Without -B it would leave compiled code in the export.
        paths = map(str, (reload.__file__, folder, request, answers))
        command = [sys.executable, "-B", "-P", *paths]
        try:
            done = subprocess.run(
                command, env=fresh_environment(), capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"export={form}: what was written did not load and answer within {SECONDS} s in a "
                "fresh process; it is not kept. The machine is busy or short of memory."
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise ExportError(
                f"export={form}: what was written does not load in a fresh process with Keras and "
                f"without kerasft (exit status {done.returncode}); it is not kept. Layers of your "
                "own must lie in a module that can be imported, and be registered with "
                "keras.saving.register_keras_serializable. Its last words:\n"
                + "\n".join(said[-8:])
            )
        with np.load(answers, allow_pickle=False) as found:
            return dict(found)


def encoded(raw: Any) -> Any:
    """Return raw examples as JSON holds them: bytes in base64."""
    if isinstance(raw, list | tuple | np.ndarray):
        return [encoded(one) for one in raw]
    return base64.b64encode(raw.encode() if isinstance(raw, str) else raw).decode()


def _readme(name: str, modules: Sequence[str]) -> str:
    imports = "\n".join(f"import {module}" for module in ("keras", "keras_hub", *modules))
    return f"""# {name}, as a Keras file

`{FILE}` takes tensors and gives logits. `{tensors.PREPROCESSING}` says how the tensors are made, in
which order the labels are, and what decides; with kerasft installed,
`kerasft.model.preprocess.load("preprocess")` makes them. What was compared with the network in
memory, and how far it differed, is in `{tensors.PARITY}`.

```python
{imports}

model = keras.saving.load_model("{FILE}", compile=False)
```
"""
