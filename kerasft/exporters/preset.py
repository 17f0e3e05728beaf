"""A KerasHub preset of the fine-tuned network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.abilities import Generates, Windowing
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import language_task, reload, tensors
from kerasft.exporters.copied import copied
from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.hub_parts import mend, of_backbone, require_backbone, twin
from kerasft.exporters.keras_file import answers_of, carry_layers, encoded, reloaded
from kerasft.exporters.tensors import Feed
from kerasft.raw_input import as_raw
from kerasft.spec import Labels, Preprocess, TextPreprocess, takes_images, takes_texts
from kerasft.system.files import at_home

if TYPE_CHECKING:
    import keras
    import keras_hub

FORM = "preset"
TOLERANCE = 1e-4
# What KerasHub's own preprocessing may change in the answers before it is left out.
FROM_RAW: dict[str, Any] = {"tolerance": 5e-2, "judge_logits": False}
OWN, STANDARD = "kerasft_task.FineTunedTask", "keras_hub.models.ImageClassifier"


def preset(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any] | None = None,
    name: str = "model",
    tolerance: float = TOLERANCE,
) -> Path:
    """Write a KerasHub preset and prove it in a fresh process without kerasft.

    `keras_hub.models.Backbone.from_preset(FOLDER)` loads the fine-tuned backbone, and the
    tokenizer or image converter load likewise. The whole task comes back too: through KerasHub's
    own `ImageClassifier` where its head says the same (average or maximum, dropout, one dense
    layer), else through `kerasft_task.FineTunedTask`, which lies in the folder. A preprocessor is
    added where KerasHub has one for the tokenizer, or for images, that gives the same answers.

    A language model becomes KerasHub's own: `keras_hub.models.CausalLM.from_preset(FOLDER)`. The
    tokens of the examples must cost the same there, and the likeliest tokens be the same.

    Args:
        model: The Keras model, from what `preprocess` gives to logits.
        directory: The folder to write; an earlier export of this format is replaced.
        preprocess: Turns raw examples into the network's input.
        task: Its `answers` are what is served.
        labels: What the labels mean.
        examples: Raw examples to prove the preset on.
        name: What the model is called in `preprocessing.json`.
        tolerance: The largest difference that passes.

    Returns:
        The folder.

    Raises:
        UserError: If the backbone is not KerasHub's, or the folder holds something else.
        ExportError: If the preset does not load, or disagrees; then nothing is left behind.

    Example:
        >>> preset(model, "films", preprocess=preprocess, task=task, labels=labels,
        ...        examples=["a fine film"])  # doctest: +SKIP
        PosixPath('films')
    """
    if examples is None or not len(examples):
        raise UserError("export=preset is proved on at least one example. Received: none.")
    check_early(task=task)
    tensors.require_whole(model, task, labels)
    if isinstance(task, Generates):
        return language_task.write(
            model, directory, FORM, save=_save_language(name), preprocess=preprocess, task=task,
            labels=labels, examples=examples, name=name, tolerance=tolerance,
        )
    network, scaling = _inside(model)
    raw = _upright(as_raw(examples, preprocess.modality).tolist(), preprocess)
    batches = tensors.feeds(preprocess, examples)
    expected = tensors.in_memory(model, task, labels, batches)
    fed = [_scaled(feed, scaling, network) for feed in batches]

    def compared(logits: np.ndarray, **limits: Any) -> tuple[dict[str, Any], list[str]]:
        wanted = {key: value[: len(logits)] for key, value in expected.items()}
        found = answers_of(logits, task, labels, wanted)
        return tensors.compare(wanted, found, task=task, labels=labels, **limits)

    with tensors.placed(directory, FORM) as folder:
        made, loads = _task(model, twin(network, FORM), scaling, fed[0])
        preprocessor, without = _preprocessor(network, preprocess, scaling, raw)
        if preprocessor is not None:
            inputs = reload.prepared(preprocessor, [encoded(one) for one in raw])
            if wrong := compared(np.asarray(made(inputs)), **FROM_RAW)[1]:
                preprocessor, without = None, f"none: with KerasHub's own, {'; '.join(wrong)}"
        made.preprocessor = preprocessor
        modules = _save(made, model, network, preprocess, folder, own=loads == OWN)
        got = reloaded(
            folder, FORM, fed, modules=modules, task=loads, raw=raw if preprocessor else []
        )
        report, problems = compared(got["logits"], tolerance=tolerance)
        if preprocessor is not None:
            report["from_raw"], wrong = compared(got["raw"], **FROM_RAW)
            problems += [f"from raw examples, {one}" for one in wrong]
        tensors.refuse(FORM, problems, len(raw), "A layer of it does not come back alike.")
        write_preprocessing(
            folder, preprocess=preprocess, task=task, labels=labels, feed=fed[0], name=name,
            outputs={"logits": expected["logits"]}, tokenizer_in="assets/tokenizer",
            scaling=scaling,
        )
        text = _readme(name, loads, modules, without, preprocess.modality)
        (folder / tensors.README).write_text(text, "utf-8")
        sizes = {"weights_in_memory": tensors.bytes_of_weights(model),
                 "folder": tensors.bytes_of(folder)}  # fmt: skip
        checked = {"task": loads, "preprocessor": without or "carried", "sizes": sizes,
                   "checked_with": "KerasHub in a fresh process, without kerasft"}
        tensors.write_parity(folder, FORM, {**checked, **report}, len(raw))
    return at_home(directory)


def check_early(*, task: Task, **_: Any) -> None:
    """See before a training that the export can be made."""
    if isinstance(task, Windowing) and task.windows > 1:
        raise UserError(
            "export=preset writes a backbone of KerasHub, which reads no text in windows. "
            f"Received: task.windows={task.windows}. Choose export=keras, or set task.windows=1."
        )


def check_network(*, network: keras.Model, task: Task) -> None:
    """See before a training that KerasHub has a class for the network."""
    if isinstance(task, Generates):
        language_task.require_language_model(network, FORM)


def _save_language(name: str) -> Callable[[keras_hub.models.CausalLM, Path], str]:
    """Return what writes a language model as a preset."""

    def save(made: keras_hub.models.CausalLM, folder: Path) -> str:
        made.save_to_preset(str(folder))
        mend(made.backbone, folder)
        return f"# {name}, a language model as a KerasHub preset\n"

    return save


def _upright(raw: list[Any], preprocess: Preprocess) -> list[Any]:
    """Return images as PNG that stand upright: KerasHub's preprocessing begins with pixels."""
    if not takes_images(preprocess):
        return raw
    import tensorflow as tf

    return [tf.io.encode_png(preprocess.pixels(tf.constant(one))).numpy() for one in raw]


def _save(
    made: keras_hub.models.Task, model: keras.Model, network: keras.Model, preprocess: Preprocess,
    folder: Path, *, own: bool,
) -> list[str]:
    """Write the preset; return the modules that must be imported before it is loaded."""
    made.save_to_preset(str(folder))
    if takes_texts(preprocess) and made.preprocessor is None:
        preprocess.tokenizer.save_to_preset(str(folder))
    mend(network, folder)
    if not own:
        return []
    shutil.copyfile(str(Path(__file__).with_name("hub_task.py")), folder / "kerasft_task.py")
    return [*carry_layers(model, folder), "kerasft_task"]


def _inside(model: keras.Model) -> tuple[Any, dict[str, Any] | None]:
    """Return the KerasHub backbone of an assembled model, and how its pixels are scaled.

    Raises:
        UserError: If there is none.
    """

    def part(of: object) -> Any:
        return getattr(getattr(of, "_parts", None), "models", {}).get("network")

    network, scaling = part(model), None
    if (inner := part(network)) is not None:
        config = network.get_config()
        scaling = {key: config[key] for key in ("height", "width", "scale", "offset", "bgr")}
        network = inner
    require_backbone(network if network is not None else model, FORM)
    return network, scaling


def _scaled(feed: Feed, scaling: dict[str, Any] | None, network: keras.Model) -> Feed:
    """Return what KerasHub's backbone takes: for images, numbers that are scaled already."""
    if scaling is None:
        return feed
    (pixels,) = feed.values()
    pixels = pixels[..., ::-1] if scaling["bgr"] else pixels
    scale, offset = (np.asarray(scaling[key], np.float32) for key in ("scale", "offset"))
    key = next(iter(network.input)) if isinstance(network.input, dict) else "images"
    return {key: pixels.astype(np.float32) * scale + offset}


def _preprocessor(
    network: keras.Model, preprocess: Preprocess, scaling: dict[str, Any] | None, raw: Sequence[Any]
) -> tuple[Any, str]:
    """Return KerasHub's preprocessor that does what ours does, or `None` and why there is none."""
    import keras_hub

    kind = type(network)
    if takes_texts(preprocess):
        base = keras_hub.models.TextClassifierPreprocessor
        if (found := of_backbone(base, kind)) is base:
            return None, f"none: KerasHub has none for classifiers on {kind.__name__}"
        made = found(preprocess.tokenizer, sequence_length=preprocess.sequence_length)
        if not _same_tokens(made, preprocess, raw):
            return None, f"none: {found.__name__} packs the examples into other tokens"
        return made, ""
    assert scaling is not None and takes_images(preprocess)
    if scaling["bgr"]:
        return None, "none: the network takes blue first, which KerasHub's converter does not give"
    converter = of_backbone(keras_hub.layers.ImageConverter, kind)(
        image_size=(scaling["height"], scaling["width"]),
        scale=scaling["scale"], offset=scaling["offset"],
        crop_to_aspect_ratio=preprocess.resize == "crop",
        pad_to_aspect_ratio=preprocess.resize == "pad",
        interpolation=preprocess.interpolation, antialias=preprocess.antialias, dtype="float32",
    )  # fmt: skip
    return of_backbone(keras_hub.models.ImageClassifierPreprocessor, kind)(converter), ""


def _same_tokens(made: Any, preprocess: TextPreprocess, raw: Sequence[Any]) -> bool:
    theirs = reload.prepared(made, [encoded(one) for one in raw])
    ours = tensors.padded(
        tensors.as_feed(preprocess(list(raw))), preprocess.sequence_length, preprocess.pad
    )
    # RoBERTa's of KerasHub 0.32 takes the second text of a pair for a label, and returns both.
    return isinstance(theirs, dict) and all(
        np.array_equal(np.asarray(theirs[key]), value) for key, value in ours.items()
    )


def _task(
    model: keras.Model, backbone: keras_hub.models.Backbone, scaling: dict[str, Any] | None,
    feed: Feed,
) -> tuple[Any, str]:
    """Return the whole task with the model's weights, and the class that loads it."""
    import keras

    from kerasft.exporters.hub_task import FineTunedTask

    feature = _feature(model)
    # A copy: another model on the same tensors would renumber the nodes of this one.
    part = model._parts.models["head"]
    copy = copied(part, "export=preset: the head does not come back from its config.")
    # The inputs of one that was trained in half precision would round.
    inputs = [
        keras.Input(batch_shape=t.shape, dtype="float32" if "float" in t.dtype else t.dtype)
        for t in copy.inputs
    ]
    head = keras.Model(inputs, keras.Function.call(copy, inputs), name="head")
    own = FineTunedTask(backbone, head, None, feature, name="fine_tuned")
    if scaling is not None and (standard := _standard(copy, backbone)) is not None:
        called = feed if isinstance(own.input, dict) else next(iter(feed.values()))
        theirs, ours = np.asarray(standard(called)), np.asarray(own(called))
        if theirs.shape == ours.shape and np.allclose(theirs, ours, atol=1e-4):
            return standard, STANDARD
    return own, OWN


def _feature(model: keras.Model) -> str | None:
    """Return the name of the network's output that a head takes, or `None` where it has one.

    Raises:
        UserError: If it takes several, or what lies within the network.
    """
    outer = model._parts.models["network"]
    named = outer.output if isinstance(outer.output, dict) else {None: outer.output}
    inputs = outer.input if isinstance(outer.input, dict) else {}
    names = {id(tensor): name for name, tensor in named.items()}
    first, *rest = model.taken_by_head
    if id(first) not in names or any(one is not inputs.get("padding_mask") for one in rest):
        raise UserError(
            "export=preset writes heads that take one output of the backbone, and its padding "
            f"mask. Received: one that takes {len(rest) + 1} tensors of it. Choose export=keras."
        )
    return names[id(first)]


def _standard(head: keras.Model, backbone: keras_hub.models.Backbone) -> Any:
    """Return KerasHub's own classifier of images with the weights of a head, where one fits.

    That is, one with pooling, dropout and a dense layer, as `head=linear` has.
    """
    import keras
    import keras_hub

    kinds = (keras.layers.InputLayer, keras.layers.Dropout, keras.layers.Dense,
             keras.layers.Reshape)  # a map as a sequence of places
    (pooling,) = [one for one in head.layers if hasattr(one, "mode")] or [None]
    dense = [one for one in head.layers if isinstance(one, keras.layers.Dense)]
    dropout = [one.rate for one in head.layers if isinstance(one, keras.layers.Dropout)]
    others = [one for one in head.layers if not isinstance(one, kinds) and one is not pooling]
    if pooling is None or len(dense) != 1 or others or len(dropout) > 1:
        return None
    kind = of_backbone(keras_hub.models.ImageClassifier, type(backbone))
    try:
        made = kind(
            backbone, num_classes=dense[0].units, pooling=pooling.mode,
            dropout=sum(dropout), head_dtype="float32",
        )  # fmt: skip
        made.output_dense.set_weights(dense[0].get_weights())
    except (AttributeError, TypeError, ValueError):
        return None  # one with another head: a hidden layer, other ways of pooling
    return made


def _readme(name: str, loads: str, modules: Sequence[str], without: str, modality: str) -> str:
    imports = "\n".join(f"import {module}" for module in ("keras_hub", *modules))
    part = "tokenizers.Tokenizer" if modality == "text" else "layers.ImageConverter"
    tool = f'\n{part.partition(".")[2].lower()} = keras_hub.{part}.from_preset(".")'
    if modality != "text" and without:
        tool = ""
    return f"""# {name}, as a KerasHub preset

```python
{imports}

task = {loads}.from_preset(".")  # with the fine-tuned head; gives logits
backbone = keras_hub.models.Backbone.from_preset("."){tool}
```

Preprocessor: {without or "carried, so that the task takes raw input in `predict`"}.
`{tensors.PREPROCESSING}` says how the inputs are made, in which order the labels are, and what
decides. What was compared with the network in memory, and how far it differed, is in
`{tensors.PARITY}`.
"""
