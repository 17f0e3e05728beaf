"""A language model as KerasHub's own task, and the proof that what was written is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kerasft.abilities import Generates
from kerasft.artifact.comparison import apart
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import tensors
from kerasft.exporters.description import write_preprocessing
from kerasft.exporters.hub_parts import of_backbone, require_backbone, twin
from kerasft.exporters.keras_file import answers_of, reloaded
from kerasft.exporters.tensors import Feed
from kerasft.raw_input import as_raw
from kerasft.spec import Labels, Preprocess, TextPreprocess
from kerasft.system.files import at_home

if TYPE_CHECKING:
    import keras
    import keras_hub
    import tensorflow as tf

CLASS = "keras_hub.models.CausalLM"
# Where the tokenizer lies, in a preset and in a folder for transformers.
TOKENIZERS = ("assets/tokenizer", "tokenizer.model", "tokenizer.json", "vocab.json")
# How many of the examples are gone on with, and how many tokens are written.
PROMPTS, MOST = 4, 16
GREEDY: dict[str, Any] = {
    "temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "stop": (),
}


class LanguagePreprocess(TextPreprocess, Protocol):
    """What stands before a language model, see `kerasft.model.text.language`."""

    template: Mapping[str, str] | None
    stops: Sequence[int]

    def prompts(self, raw: tf.Tensor) -> Any:
        """Return the tokens that an answer is to follow, ragged."""

    def texts(self, tokens: tf.RaggedTensor) -> Any:
        """Return tokens as texts."""


def require_language_model(network: object, form: str) -> Any:
    """Return KerasHub's class of language models for a network, and the backbone that it takes.

    Args:
        network: The network of a model, before its head.
        form: The name of the export.

    Raises:
        UserError: If KerasHub has none.
    """
    import keras_hub

    network = getattr(network, "within", network)  # documents in one row are kept apart by it
    require_backbone(network, form)
    kind = of_backbone(keras_hub.models.CausalLM, type(network))
    if kind is keras_hub.models.CausalLM:
        raise UserError(
            f"export={form}: KerasHub has no class of language models for "
            f"{type(network).__name__}. Choose export=keras or saved_model."
        )
    return kind, network


def task_of(
    model: keras.Model, preprocess: LanguagePreprocess, task: Generates, form: str
) -> keras_hub.models.CausalLM:
    """Return a language model as KerasHub's own task, on a copy of its weights in float32.

    Raises:
        UserError: If KerasHub has none that says the same.
    """
    import keras_hub

    parts = getattr(getattr(model, "_parts", None), "models", {})
    kind, backbone = require_language_model(parts.get("network"), form)
    if task.read_off(model)[0] is not parts["network"].output:
        raise UserError(
            f"export={form} writes networks that read tokens off by their own embedding "
            "(head=language), as KerasHub's classes do. Received another head. Choose "
            "export=keras or saved_model."
        )
    before = of_backbone(keras_hub.models.CausalLMPreprocessor, type(backbone))(
        preprocess.tokenizer, sequence_length=preprocess.sequence_length
    )
    return kind(backbone=twin(backbone, form), preprocessor=before)


def write(
    model: keras.Model, directory: str | Path, form: str, *,
    save: Callable[[keras_hub.models.CausalLM, Path], str], preprocess: Preprocess, task: Task,
    labels: Labels, examples: Sequence[Any], name: str, tolerance: float,
) -> Path:
    """Write a language model as KerasHub does, prove it, and say beside it what it is.

    Args:
        model: The language model.
        directory: The folder to write.
        form: The name of the export.
        save: Writes the task into a folder; returns what its README begins with.
        preprocess: What stands before the model.
        task: Says what is compared.
        labels: What the labels mean.
        examples: Raw examples to prove it on.
        name: What the model is called.
        tolerance: The largest difference that passes.

    Returns:
        The folder.

    Raises:
        UserError: If KerasHub has no task that says the same.
        ExportError: If what was written disagrees; then nothing is left behind.
    """
    assert isinstance(task, Generates)
    language: Any = preprocess  # that of a task which writes
    made = task_of(model, language, task, form)
    with tensors.placed(directory, form) as folder:
        said = save(made, folder)
        report, problems = proved(
            folder, form, model, preprocess=language, task=task, labels=labels,
            examples=examples, tolerance=tolerance,
        )
        tensors.refuse(form, problems, len(examples), "A layer of it does not come back alike.")
        scores = np.zeros((1, 1, int(made.backbone.vocabulary_size)), "float32")
        write_preprocessing(
            folder, preprocess=preprocess, task=task, labels=labels, name=name,
            feed=tensors.feeds(preprocess, examples[:1])[0], outputs={"logits": scores},
            tokenizer_in=next(one for one in TOKENIZERS if (folder / one).exists()),
            decision={"rule": "logits at a position are of the token that follows; an answer ends "
                              "before one of stops", "stops": list(language.stops)},
        )  # fmt: skip
        (folder / tensors.README).write_text(
            f"{said}\n{_how_to(language, report['prompts'])}\nWhat was compared with the "
            f"network in memory, and how far it differed, is in `{tensors.PARITY}`.\n", "utf-8",
        )
        sizes = {"weights_in_memory": tensors.bytes_of_weights(model),
                 "folder": tensors.bytes_of(folder)}  # fmt: skip
        checked = {"task": CLASS, "sizes": sizes,
                   "checked_with": "KerasHub in a fresh process, without kerasft"}
        tensors.write_parity(folder, form, {**checked, **report}, len(examples))
    return at_home(directory)


def _how_to(preprocess: LanguagePreprocess, prompts: str) -> str:
    """Return what a README says of writing with the model."""
    stops = list(preprocess.stops) or None
    if prompts == "texts":
        call, said = f'"Once upon a time", max_length=64, stop_token_ids={stops}', ""
        before = ""
    else:
        call = f'{{"token_ids": ids, "padding_mask": mask}}, stop_token_ids={stops}'
        before = "model.preprocessor = None\n"
        said = (f"\nPrompts are given as {prompts}. `{tensors.PREPROCESSING}` says how they are "
                "made of texts; `padding_mask` is 0 where tokens are to be written.\n")
    return f"""```python
import keras_hub

model = {CLASS}.from_preset(".")
model.compile(sampler="greedy")
{before}model.generate({call})
```
{said}"""


def proved(
    folder: Path, form: str, model: keras.Model, *, preprocess: LanguagePreprocess, task: Task,
    labels: Labels, examples: Sequence[Any], tolerance: float,
) -> tuple[dict[str, Any], list[str]]:
    """Load a language model from a folder in a fresh process, and hold it against the one here.

    All tokens of the examples must cost the same, the scores of the token behind each example be
    the same, and the likeliest tokens behind the first few beginnings.

    Args:
        folder: What `keras_hub.models.CausalLM.from_preset` loads.
        form: The name of the export.
        model: The language model in memory.
        preprocess: What stands before it.
        task: Says what is compared.
        labels: What the labels mean.
        examples: Raw examples.
        tolerance: The largest difference that passes.

    Returns:
        What was found, and what is wrong in words.
    """
    batches = tensors.feeds(preprocess, examples)
    expected = tensors.in_memory(model, task, labels, batches)
    prompts, written = _written(model, preprocess, task, examples)
    facts = {"most": prompts["most"], "stops": list(preprocess.stops) or None,
             "texts": prompts["texts"]}  # fmt: skip
    fed = [*batches, {"token_ids": prompts["ids"], "padding_mask": prompts["mask"]}]
    got = reloaded(folder, form, fed, task=CLASS, language=facts)
    answers = answers_of(got["logits"], task, labels, expected)
    # Which token is the likeliest may be a matter of rounding; what each costs tells more.
    report, problems = tensors.compare(
        expected, answers, task=task, labels=labels, tolerance=tolerance, judge_logits=False
    )
    report["largest_difference"].pop("logits")
    scores = np.concatenate([_last(model, task, feed) for feed in batches])
    worst = report["largest_difference"]["last_logits"] = apart(got["last"], scores)
    if not worst <= tolerance:
        problems.append(f"last_logits differs by {worst:.3g}, more than {tolerance:g}")
    theirs = _texts(preprocess, prompts, got["ids"])
    near = 2 * tolerance * max(1.0, float(np.abs(scores).max()))
    others = theirs != written["text"]
    ties = others & (written["margin"][:, 0] <= near)
    report["greedy"] = {
        "texts": len(others), "tokens": int(written["tokens"].sum()), "other": int(others.sum()),
        "near_ties": int(ties.sum()),
    }
    if (others & ~ties).any():
        problems.append(f"{int((others & ~ties).sum())} of {len(others)} texts go on otherwise")
    report["prompts"] = _of_prompts(got, prompts, preprocess)
    return report, problems


def _written(
    model: keras.Model, preprocess: LanguagePreprocess, task: Task, examples: Sequence[Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return some beginnings as tokens, and what the model in memory writes behind them."""
    import tensorflow as tf

    assert isinstance(task, Generates)
    most = min(MOST, preprocess.sequence_length // 2)
    texts = [task.begun(one.decode()).sent for one in as_raw(examples[:PROMPTS], "text").tolist()]
    tokens = preprocess.prompts(tf.constant([one.encode() for one in texts]))
    room = preprocess.sequence_length - most
    whole = tokens.row_lengths().numpy() <= room
    tokens = tokens[:, -room:]
    lengths = tokens.row_lengths().numpy()
    full = np.flatnonzero(lengths)  # KerasHub's writes nothing behind nothing
    texts, lengths = [texts[i] for i in full], lengths[full]
    wide = int(lengths.max(initial=1)) + most
    ids = tokens.to_tensor(preprocess.pad, shape=[None, wide]).numpy()[full].astype("int32")
    mask = (np.arange(wide)[None] < lengths[:, None]).astype("int32")
    writing = task.generating({**GREEDY, "max_new": most})
    written = writing.write(model, preprocess, texts) if texts else {
        "text": np.zeros(0, object), "tokens": np.zeros(0, int), "margin": np.zeros((0, 1)),
    }  # fmt: skip
    return {"texts": texts, "ids": ids, "mask": mask, "lengths": lengths, "most": most,
            "whole": whole[full]}, written


def _last(model: keras.Model, task: Task, feed: Feed) -> np.ndarray:
    """Return the scores of all tokens behind the last one of each text."""
    import keras
    import tensorflow as tf

    assert isinstance(task, Generates)
    given, embedding = task.read_off(model)
    with tf.device("/CPU:0"):
        features = keras.Function(model.input, given)(feed)
        place = tf.reduce_sum(tf.constant(feed["padding_mask"], tf.int32), axis=1) - 1
        last = tf.gather(features, place, batch_dims=1)
        return np.asarray(embedding(last[:, None], reverse=True)[:, 0], np.float32)


def _texts(
    preprocess: LanguagePreprocess, prompts: Mapping[str, Any], ids: np.ndarray
) -> np.ndarray:
    """Return what KerasHub wrote as texts, as `model.text.generation` makes them of tokens."""
    import tensorflow as tf

    rows, stops = [], set(preprocess.stops)
    for row, length in zip(ids.tolist(), prompts["lengths"].tolist(), strict=True):
        new = row[length : length + prompts["most"]]
        end = next((i for i, one in enumerate(new) if one in stops), len(new))
        rows.append(row[: length + end])
    if not rows:
        return np.zeros(0, object)
    # As a graph: called by itself, a tokenizer of KerasHub drops bytes that are no text.
    texts_of = tf.function(preprocess.texts, autograph=False)
    given = [row[:length] for row, length in zip(rows, prompts["lengths"].tolist(), strict=True)]
    before, whole = (texts_of(tf.ragged.constant(one, tf.int32, ragged_rank=1)).numpy()
                     for one in (given, rows))  # fmt: skip
    text = [text[min(len(one), len(text)) :] for one, text in zip(before, whole, strict=True)]
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8").numpy()


def _of_prompts(
    got: Feed, prompts: Mapping[str, Any], preprocess: LanguagePreprocess
) -> str:
    """Say whether KerasHub's own preprocessing makes the same tokens of prompts."""
    if preprocess.template is not None:
        return "tokens: KerasHub knows no templates"
    theirs, ours = got["prepared"], prompts["ids"]
    # Of those whose beginning was cut off here, KerasHub's loses the end.
    real = (prompts["mask"] > 0) & prompts["whole"][:, None]
    same = theirs.shape == ours.shape and (theirs == ours)[real].all()
    return "texts" if same else "tokens: KerasHub's own preprocessing makes others of the examples"
