"""Loads an exported network as its receiver does: a script by itself, without kerasft.

    python -P reload.py FOLDER REQUEST ANSWERS

FOLDER holds a `.keras` file or a KerasHub preset. REQUEST is JSON: `form` (`keras` or `preset`),
`modules` (to import before, some of them files in FOLDER), `task` (the class to load a preset
with), `raw` (examples in base64 for the preset's own preprocessing, pairs as lists), and for a
language model `language` (`most` tokens to write, `stops`, and the `texts` of prompts). Beside it
lies REQUEST.npz with batches of inputs, `0/token_ids` and so on, of a language model the prompts at
the end. ANSWERS is the `.npz` to write: `logits`, and `raw` for the examples in `raw`; for a
language model see `language`.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np

BARRED = "kerasft"


class Bar:
    """Finds every package but kerasft, as if it weren't installed."""

    def __init__(self, finders):
        self.finders = list(finders)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == BARRED:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None), None)


def batches(file):
    """Return the batches of inputs in an `.npz` file."""
    made: dict[int, dict[str, np.ndarray]] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("/")
            made.setdefault(int(number), {})[name] = arrays[key]
    return [made[i] for i in sorted(made)]


def load(folder, facts):
    """Return the network, and what makes its inputs of raw examples if anything does."""
    import keras

    if facts["form"] == "keras":
        path = Path(folder, "model.keras")
        return keras.saving.load_model(path, compile=False, safe_mode=True), None
    import keras_hub

    # Each raises where its part of the preset is not whole.
    keras_hub.models.Backbone.from_preset(folder)
    if Path(folder, "tokenizer.json").is_file():
        keras_hub.tokenizers.Tokenizer.from_preset(folder).vocabulary_size()
    module, _, name = facts["task"].rpartition(".")
    task = getattr(importlib.import_module(module), name).from_preset(folder)
    return task, task.preprocessor


def prepared(preprocessor, raw):
    """Return what the preset's own preprocessing makes of raw examples."""
    import tensorflow as tf

    def plain(value):
        return [plain(v) for v in value] if isinstance(value, list) else base64.b64decode(value)

    raw = plain(raw)
    if hasattr(preprocessor, "image_converter") and preprocessor.image_converter is not None:
        rows = []
        for one in raw:
            try:
                image = tf.io.decode_image(one, channels=3, expand_animations=False)
            except tf.errors.InvalidArgumentError:  # a WebP that is transparent in places
                image = tf.io.decode_image(one, channels=4, expand_animations=False)[..., :3]
            rows.append(preprocessor(tf.cast(image, tf.float32)[None]))
        return tf.concat(rows, 0)
    if isinstance(raw[0], list):
        return preprocessor(tuple(tf.constant(side) for side in zip(*raw, strict=True)))
    return preprocessor(tf.constant(raw))


def language(model, given, facts):
    """Return what a language model says of rows of tokens, and what it writes behind prompts.

    Returns:
        `logits` `[rows, positions, 3]`, what each token costs, whether it is the likeliest one, and
        whether it is real (not the scores of all tokens, which may be gigabytes); `last`, the
        scores of all tokens behind the last one of each row; `ids`, prompts with the likeliest
        tokens behind them; and `prepared`, the tokens that the preset's own preprocessing makes of
        the prompts.
    """
    *rows, prompts = given
    found = [measured(model, one) for batch in rows for one in few(batch, model)]
    widest = max(each.shape[1] for each, _ in found)
    made = {
        "logits": np.concatenate([
            np.pad(each, [(0, 0), (0, widest - each.shape[1]), (0, 0)]) for each, _ in found
        ]),
        "last": np.concatenate([last for _, last in found]),
        "ids": prompts["token_ids"], "prepared": prompts["token_ids"],
    }
    if not facts["texts"]:
        return made
    width = prompts["token_ids"].shape[1]
    prepared = model.preprocessor.generate_preprocess(facts["texts"], sequence_length=width)
    made["prepared"] = np.asarray(prepared["token_ids"])
    model.preprocessor = None
    model.compile(sampler="greedy", jit_compile=False)
    written = model.generate(dict(prompts), stop_token_ids=facts["stops"])
    made["ids"] = np.asarray(written["token_ids"])
    return made


def few(batch, model):
    """Yield as many rows at a time as have scores for 2**26 tokens at most."""
    count, positions = batch["token_ids"].shape
    size = max(2**26 // (positions * int(model.backbone.vocabulary_size)), 1)
    for i in range(0, count, size):
        yield {name: value[i : i + size] for name, value in batch.items()}


def measured(model, rows):
    """Return what each token of rows costs, and the scores behind their last ones."""
    scores = np.asarray(model(rows, training=False), np.float32)
    tokens, real = rows["token_ids"][:, 1:, None], rows["padding_mask"].astype("float32")
    most = scores.max(axis=-1, keepdims=True)
    total = np.log(np.exp(scores - most).sum(axis=-1)) + most[..., 0]
    nats = total[:, :-1] - np.take_along_axis(scores[:, :-1], tokens, axis=-1)[..., 0]
    right = (scores[:, :-1].argmax(axis=-1) == tokens[..., 0]).astype("float32")
    nats, right = (np.pad(one * real[:, 1:], [(0, 0), (1, 0)]) for one in (nats, right))
    ends = real.sum(axis=1).astype(int) - 1
    return np.stack([nats, right, real], axis=-1), scores[np.arange(len(ends)), ends]


def main(folder: str, request: str, answers: str) -> None:
    facts = json.loads(Path(request).read_text("utf-8"))
    sys.meta_path[:] = [Bar(sys.meta_path)]
    sys.path.insert(0, folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras_hub  # noqa: F401  (its layers must be known before a file is read)

    for module in facts["modules"]:
        importlib.import_module(module)
    model, preprocessor = load(folder, facts)
    if facts.get("language"):
        write(answers, language(model, batches(f"{request}.npz"), facts["language"]))
        return
    made = {}
    named = isinstance(model.input, dict)
    called = [one if named else next(iter(one.values())) for one in batches(f"{request}.npz")]
    logits = [np.asarray(model(one, training=False), np.float32) for one in called]
    # Of texts of several lengths there may be something for each token.
    widest = max(one.shape[1] for one in logits) if logits[0].ndim == 3 else 0
    made["logits"] = np.concatenate([
        np.pad(one, [(0, 0), (0, widest - one.shape[1]), (0, 0)]) if widest else one
        for one in logits
    ])
    if facts["raw"] and preprocessor is not None:
        inputs = prepared(preprocessor, facts["raw"])
        made["raw"] = np.asarray(model(inputs, training=False), np.float32)
    write(answers, made)


def write(answers, made):
    """Write arrays to the file that was asked for."""
    with open(answers, "wb") as file:
        np.savez(file, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
