"""Preprocessing in words that a program reads, for formats that cannot carry it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasft.contracts import Explained, Task, Thresholded
from kerasft.exporters.tensors import PREPROCESSING, Feed
from kerasft.spec import (
    ImagePreprocess,
    Labels,
    Preprocess,
    TextPreprocess,
    channels_of,
    takes_images,
    takes_texts,
)
from kerasft.system.files import write_json

TOKENIZER, LABELS = "tokenizer", "labels.txt"
# The kinds of tokenizers that KerasHub has, by the class that each of them is a subclass of.
ALGORITHMS = {
    "WordPieceTokenizer": "wordpiece",
    "BytePairTokenizer": "byte-level byte-pair encoding",
    "SentencePieceTokenizer": "sentencepiece",
}


def write_preprocessing(
    folder: Path, *, preprocess: Preprocess, task: Task, labels: Labels, feed: Feed,
    outputs: Mapping[str, Any], name: str, length: int | None = None,
    tokenizer_in: str | None = None, scaling: Mapping[str, Any] | None = None, chosen: bool = True,
    decision: Mapping[str, Any] | None = None,
) -> None:
    """Write `preprocessing.json`, `labels.txt` and, for texts, the tokenizer's files.

    Args:
        folder: Where the export lies.
        preprocess: What turns raw examples into `feed`.
        task: Its `cutoff` decides for several labels.
        labels: What the labels mean.
        feed: A batch of the network's inputs.
        outputs: What the network answers for it.
        name: What the model is called.
        length: How many positions every text must have, or `None` for any number.
        tokenizer_in: The part of the folder that has the tokenizer already.
        scaling: `scale`, `offset` and `bgr`, where pixels are scaled before the network.
        chosen: Whether outputs are answers, or what these are chosen of, see `Choosing`.
        decision: How answers follow from the outputs; the task's own way by default.
    """
    rules = task.outputs(labels)
    by_token = {name for name, rule in rules.items() if rule.padded}
    by_token |= {"logits"} if by_token else set()
    facts: dict[str, Any] = {
        "name": name,
        "modality": preprocess.modality,
        "inputs": {
            key: {"dtype": value.dtype.name, "shape": _shape(value, preprocess.modality, length)}
            for key, value in feed.items()
        },
        "outputs": {
            key: {"dtype": value.dtype.name,
                  "shape": _shape(value, preprocess.modality if key in by_token else "", length)}
            for key, value in outputs.items()
        },
        "kind": task.kind,
        "labels": list(labels.names),
        "decision": decision or _decision(task, labels, chosen),
    }
    if takes_texts(preprocess):
        facts |= _text(preprocess, length)
        tokenizer = getattr(preprocess, "tokenizer", None)
        if tokenizer is not None:
            if tokenizer_in is None:
                tokenizer.save_to_preset(str(folder / TOKENIZER))
            place = folder / (tokenizer_in or TOKENIZER)
            facts["tokenizer"] |= {"files": _files(place, folder)}
    elif takes_images(preprocess):
        facts |= _images(preprocess, scaling)
    write_json(folder / PREPROCESSING, facts)
    if labels.names:
        (folder / LABELS).write_text("".join(f"{n}\n" for n in labels.names), "utf-8")


def _shape(value: Any, modality: str, length: int | None) -> list[int | None]:
    if modality == "text" and value.ndim > 1:
        return [None, length, *value.shape[2:]]
    return [None, *value.shape[1:]]


def _decision(task: Task, labels: Labels, chosen: bool) -> dict[str, Any]:
    if isinstance(task, Explained):
        return task.rule(labels, chosen=chosen)
    if isinstance(task, Thresholded):
        return {"rule": "each label with probabilities >= threshold", "threshold": task.cutoff}
    if any(rule.largest for rule in task.outputs(labels).values()):
        return {"rule": "the label with the largest of probabilities"}
    return {"rule": "the output is the value, in the units of the labels"}


def _text(preprocess: TextPreprocess, length: int | None) -> dict[str, Any]:
    tokenizer = getattr(preprocess, "tokenizer", None)
    if tokenizer is None:
        return {"class": f"{type(preprocess).__module__}.{type(preprocess).__qualname__}"}
    config = tokenizer.get_config()
    bases = {base.__name__ for base in type(tokenizer).__mro__}
    names = ("lowercase", "strip_accents", "split", "split_on_cjk", "suffix_indicator",
             "oov_token", "add_prefix_space")  # fmt: skip
    masked = "padding_mask" in preprocess.inputs
    template = getattr(preprocess, "template", None)
    return {
        "tokenizer": {
            "class": f"keras_hub.tokenizers.{type(tokenizer).__name__}",
            "algorithm": next((v for k, v in ALGORITHMS.items() if k in bases), "another one"),
            "vocabulary_size": tokenizer.vocabulary_size(),
            **{key: config[key] for key in names if config.get(key) is not None},
            **{key: getattr(tokenizer, key) for key in ("strip_accents",)
               if hasattr(tokenizer, key)},
        },
        "special_ids": {"start": preprocess.start, "end": preprocess.end, "pad": preprocess.pad},
        "sequence_length": preprocess.sequence_length,
        "pair": preprocess.pair,
        "layout": _layout(preprocess) if template is None else
        ["template: begin, then a piece for each turn; {start}, {end} and {token:NAME} are tokens "
         "by number, and what stands between them is tokenized by itself"],
        **({} if template is None else {"template": dict(template)}),
        "truncation": _truncation(preprocess),
        "padding": {
            "side": "right",
            "to": "the longest row of the batch" if masked and length is None
            else f"{length or preprocess.sequence_length} positions",
            "values": {"token_ids": preprocess.pad, "segment_ids": 0, "padding_mask": 0},
        },
        "meaning": {
            "token_ids": "numbers of the tokens",
            "segment_ids": "0 for the first text with its frame, 1 for the second text and its end",
            "padding_mask": "1 for a token, 0 for padding; at least one position is 1",
        },
    }


def _layout(preprocess: TextPreprocess) -> list[str]:
    start = [] if preprocess.start is None else ["start"]
    end = [] if preprocess.end is None else ["end"]
    if not preprocess.pair:
        return [*start, "text", *end]
    return [*start, "text", *end * (2 if preprocess.doubled else 1), "text_pair", *end]


def _truncation(preprocess: TextPreprocess) -> str:
    if preprocess.pair:
        return ("the longer of the two texts loses its end until both, with their frame, fit into "
                "sequence_length or have half of the room each")
    return "the text loses its end so that it fits into sequence_length with its frame"


_CHANNELS = {1: "grey", 2: "grey, alpha", 3: "RGB", 4: "RGBA"}
_GREY = "grey is 0.2989 R + 0.587 G + 0.114 B, rounded to whole numbers"
_ALPHA = "alpha is 255 where the file has none"
_DECODING = {
    1: f"decode to grey, 8 bits; transparency is dropped; {_GREY}",
    2: f"decode to grey and alpha, 8 bits a channel; {_GREY}; {_ALPHA}",
    3: "decode to RGB, 8 bits a channel; grey is repeated, transparency is dropped",
    4: f"decode to RGBA, 8 bits a channel; grey is repeated; {_ALPHA}",
}


def _images(preprocess: ImagePreprocess, scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    names = ("resize", "interpolation", "antialias")
    if not all(hasattr(preprocess, n) for n in names):
        return {"class": f"{type(preprocess).__module__}.{type(preprocess).__qualname__}"}
    height, width, count = preprocess.height, preprocess.width, channels_of(preprocess)
    swapped = scaling is not None and scaling["bgr"]
    normalization: Any = "inside the network: it takes the pixels 0..255 as they are"
    if scaling is not None:
        normalization = {
            "rule": "before the network: pixels * scale + offset, each a number or one a channel",
            **{key: scaling[key] for key in ("scale", "offset")},
        }
    fit = {
        "crop": "scale by the larger of height/rows and width/columns, round the size to whole "
                "pixels (half to even), then cut the middle out (odd pixels: more is cut below "
                "and on the right)",
        "pad": "scale by the smaller of height/rows and width/columns, round the size to whole "
               "pixels (half to even), then put it into the middle of black",
        "stretch": "scale rows and columns each to the size",
    }  # fmt: skip
    return {
        "size": [height, width],
        "channels": _CHANNELS[count].replace("RGB", "BGR" if swapped else "RGB"),
        "value_range": [0, 255],
        **{key: getattr(preprocess, key) for key in names},
        "steps": [
            _DECODING[count],
            *_turning(preprocess),
            f"{fit[preprocess.resize]}: {height} rows, {width} columns",
            f"interpolation {preprocess.interpolation}, pixel centres at one half, "
            + ("with" if preprocess.antialias else "without") + " antialiasing when it shrinks",
            "round half to even, clip to 0..255, uint8",
        ],
        "normalization": normalization,
    }


def _turning(preprocess: ImagePreprocess) -> list[str]:
    if not getattr(preprocess, "upright", False):
        return []
    return ["turn or mirror the pixels upright as the EXIF orientation of a JPEG, PNG or WebP says"]


def _files(place: Path, folder: Path) -> list[str]:
    files = [p for p in place.rglob("*") if p.is_file()] if place.is_dir() else [place]
    return sorted(str(p.relative_to(folder)) for p in files)
