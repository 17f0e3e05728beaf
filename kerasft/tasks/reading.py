"""How a language model reads its data: parts of documents, answers, packed blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.abilities import Begun, Generates, Prepare
from kerasft.data import documents, packing
from kerasft.data.annotations.language import require_template
from kerasft.data.store import TOKENS, Store
from kerasft.errors import UserError, some
from kerasft.model.text.language import END, LEARNED, LanguagePreprocess
from kerasft.model.text.templates import GOES_ON, SAID, TURN
from kerasft.raw_input import as_raw
from kerasft.rows import Column, Rows, constant, joined
from kerasft.spec import Backbone, Examples, Preprocess, Splits, takes_texts
from kerasft.system.console import listing, say, warn

if TYPE_CHECKING:
    import keras
    import keras_hub

__all__ = ["END", "LEARNED", "begun", "mean_learned", "prepared", "read", "write"]

AT_ONCE = 512
# The column that says how many tokens of an example's answers are cut off.
CUT = "cut"
# The most characters of a document that are shown as its beginning.
BEGINNING = 240


def prepared(
    backbone: Backbone, template: Mapping[str, str] | None, loss_on: Any, *, apart: bool
) -> Backbone:
    """Return a backbone as a language model needs it.

    Args:
        backbone: The backbone.
        template: How conversations become tokens; `None` for documents.
        loss_on: What of them is learned.
        apart: Whether documents in one row must not see each other.

    Raises:
        UserError: If it is no language model, or cannot be told documents apart.
    """
    if not takes_texts(backbone.preprocess) or not backbone.causal:
        raise UserError(
            f"task=causal_lm needs a network that reads from left to right (GPT-2, Llama, Gemma, "
            f"Mistral, Qwen, ...). Received: {backbone.name}, which "
            + ("reads in both directions." if takes_texts(backbone.preprocess)
               else "takes images.")
        )
    before = backbone.preprocess
    made = LanguagePreprocess(
        before.tokenizer, inputs=before.inputs, sequence_length=before.sequence_length,
        template=template, loss_on=loss_on,
    )
    if template is not None and backbone.pretrained:
        tell_own_template(backbone.name, template, before.tokenizer)
    network = backbone.network
    if apart:
        from kerasft.model.text.isolation import Isolated, Unfit

        try:
            if made.start is None:
                raise Unfit(f"the vocabulary of {backbone.name} has no token that texts begin or "
                            "end with")
            network = Isolated(network, made.start, made.end if made.end is not None else -1)
        except Unfit as error:
            raise UserError(
                f"task.packing=isolated cannot keep documents apart: {error}. Set "
                "task.packing=none, or joined."
            ) from error
    return replace(backbone, network=network, preprocess=made)


def tell_own_template(
    preset: str, template: Mapping[str, str], tokenizer: keras_hub.tokenizers.Tokenizer
) -> None:
    """Warn where the own chat template of a checkpoint is another one."""
    from kerasft.model.text.jinja_template import difference

    if said := difference(preset, template, tokenizer):
        warn(said)


def mean_learned(annotations: Rows) -> float:
    """Return how many tokens of an example are learned, on average."""
    if LEARNED not in annotations:
        return 1.0
    learned = joined([annotations.only([LEARNED])]).columns[LEARNED]
    return max(float((learned.values > 0).sum()) / max(len(learned), 1), 1e-6)


def read(
    splits: Splits, preprocess: Preprocess, prepare: Prepare, *, packing: str, seed: int
) -> tuple[Splits, dict[str, Any]]:
    """Return examples as they are trained on and measured, and what a network takes of them.

    See `abilities.Reading`.
    """
    assert isinstance(preprocess, LanguagePreprocess)
    parts = dict(splits.parts)
    for part in parts.values():
        require_template(part.inputs, template=preprocess.template is not None)
    learning = preprocess.learning()
    # Blocks are cut out of whole documents, and what is measured out of texts.
    in_blocks = packing != "none" and preprocess.template is None
    made = {}
    if in_blocks:
        made = dict(prepare({"train": parts["train"]}, preprocess.learning(whole=True)))
    if preprocess.template is None:
        parts |= _cut({n: p for n, p in parts.items() if n not in made}, preprocess)
    made |= prepare({n: p for n, p in parts.items() if n not in made}, learning)
    stores: dict[str, Any] = {}
    for name, part in parts.items():
        parts[name], stores[name] = _with_learned(name, part, made[name], preprocess)
    if packing != "none":
        parts["train"], stores["train"] = _packed(
            parts["train"], stores["train"], preprocess, packing, seed
        )
    changed: Any = parts
    return replace(splits, **changed), stores


def _cut(parts: Mapping[str, Examples], preprocess: LanguagePreprocess) -> dict[str, Examples]:
    """Cut documents that are too long for a row."""
    frame = (preprocess.start is not None) + (preprocess.end is not None)
    room = preprocess.sequence_length - frame

    def count(texts: Sequence[str]) -> np.ndarray:
        lengths = [
            preprocess.prompts(as_raw(texts[i : i + AT_ONCE], "text")).row_lengths().numpy()
            for i in range(0, len(texts), AT_ONCE)
        ]  # fmt: skip
        return np.concatenate(lengths) - (preprocess.start is not None)

    made: dict[str, Examples] = {}
    for name, part in parts.items():
        pieces = documents.cut(part.inputs, count, room)
        texts, ids, sizes = [], [], []
        for one, cut in zip(part.ids, pieces, strict=True):
            for number, piece in enumerate(cut, 1):
                last = number == len(cut)
                texts.append(piece if last else piece + GOES_ON)
                ids.append(one if len(cut) == 1 else f"{one} part {number}")
                sizes.append(len(piece.encode()))
        of = np.repeat(np.arange(len(pieces)), list(map(len, pieces)))
        long = sum(len(cut) > 1 for cut in pieces)
        if long:
            say(f"{name}: {some(long, 'document')} of {len(part):,} longer than "
                f"backbone.sequence_length={preprocess.sequence_length} tokens: read in parts, "
                f"{len(texts):,} in all")
        made[name] = Examples(
            part.modality, texts, Rows.of({"bytes": np.array(sizes, "int64")}), tuple(ids),
            None if part.slices is None else part.slices.take(of),
        )
    return made


def _with_learned(
    name: str, part: Examples, store: Store, preprocess: LanguagePreprocess
) -> tuple[Examples, Store]:
    """Take what is learned out of a store; leave out what teaches nothing."""
    whole = joined([store.inputs])
    learned = whole.columns[LEARNED]
    ends = learned.ends
    assert ends is not None
    starts = np.concatenate([[0], ends[:-1]]).astype("int64")
    counts = np.add.reduceat(learned.values > 0, starts) if len(ends) else np.zeros(0)
    bare = np.flatnonzero(counts == 0)
    sizes = part.annotations["bytes"]
    cut = np.zeros(len(ends), "int64")
    if preprocess.template is not None:
        full = np.flatnonzero(ends - starts >= preprocess.sequence_length)
        cut[full] = _taught([part.inputs[int(i)] for i in full], preprocess) - counts[full]
        # Of answers that are cut as many bytes count as of their tokens are left.
        sizes = np.round(sizes * (counts / np.maximum(counts + cut, 1))).astype("int64")
        _tell_cut(name, part, cut[counts > 0], np.flatnonzero(counts > 0), preprocess)
    annotations = Rows.of({
        "bytes": sizes,
        LEARNED: replace(learned, values=learned.values.astype("uint8"), dtype=""),
        **({CUT: cut} if cut.any() else {}),
    })  # fmt: skip
    rest = [one for one in store.inputs.columns if one != LEARNED]
    part = replace(part, annotations=annotations)
    store = replace(store, inputs=store.inputs.only(rest))
    if not len(bare):
        return part, store
    said = (f"{some(len(bare), 'example')} of {name} without an answer within "
            f"backbone.sequence_length={preprocess.sequence_length} tokens: "
            f"{listing(part.ids[i] for i in bare)}")
    if len(bare) == len(part):
        raise UserError(
            f"{said}. No tokens are left to train on: raise backbone.sequence_length, or shorten "
            "prompts."
        )
    warn(f"{said}; left out")
    rows = np.flatnonzero(counts > 0)
    key = hashlib.sha256(store.key.encode() + rows.tobytes()).hexdigest() if store.key else ""
    return part.take(rows), store.take(rows, key)


def _taught(texts: Sequence[str], preprocess: LanguagePreprocess) -> np.ndarray:
    """Return how many tokens of each text would be learned, were nothing cut off."""
    import tensorflow as tf

    counts = [np.zeros(0, "int64")]
    for i in range(0, len(texts), AT_ONCE):
        learned = preprocess.taught(as_raw(texts[i : i + AT_ONCE], "text"))
        counts.append(tf.reduce_sum(tf.cast(learned > 0, tf.int64), axis=1).numpy())
    return np.concatenate(counts)


def _tell_cut(
    name: str, part: Examples, cut: np.ndarray, rows: np.ndarray, preprocess: LanguagePreprocess
) -> None:
    """Say how many answers are cut, of the examples that have some left."""
    if not cut.any():
        return
    warn(
        f"{some(int((cut > 0).sum()), 'example')} of {len(rows):,} in {name} with answers cut off "
        f"at backbone.sequence_length={preprocess.sequence_length} tokens, "
        f"{int(cut.sum()):,} tokens in all: {listing(part.ids[i] for i in rows[cut > 0])}. Raise "
        "backbone.sequence_length, or shorten prompts"
    )


def _packed(
    part: Examples, store: Store, preprocess: LanguagePreprocess, how: str, seed: int
) -> tuple[Examples, Store]:
    """Put the training texts into blocks."""
    block = preprocess.sequence_length
    rows = joined([store.inputs])
    tokens = rows.columns["token_ids"]
    ends = tokens.ends
    assert ends is not None
    starts = np.concatenate([[0], ends[:-1]]).astype("int64")
    # Behind all tokens stands the one that documents begin with.
    values = np.append(tokens.values, preprocess.start or 0)
    learned = np.append(joined([part.annotations]).columns[LEARNED].values, 0)
    if how == "isolated":
        pieces = _pieces(starts, ends, block, len(tokens.values))
        lengths = np.array([len(one) for one in pieces])
        places = [np.concatenate([pieces[one] for one in members])
                  for members in packing.fitted(lengths, block, seed)]  # fmt: skip
    else:
        places = [np.arange(*one) for one in packing.cut(len(tokens.values), block)]
    taught = [np.where(np.arange(len(one)) == 0, 0, learned[one]) for one in places]
    # The bytes of a text, spread evenly over what is learned of it.
    counts = np.add.reduceat(learned[:-1] > 0, starts)
    each = np.append(
        np.repeat(part.annotations["bytes"] / np.maximum(counts, 1), ends - starts), 0.0
    )
    full = [i for i, one in enumerate(taught) if (one > 0).any()]
    places, taught = [places[i] for i in full], [taught[i] for i in full]
    sizes = [each[one][now > 0].sum() for one, now in zip(places, taught, strict=True)]
    if not places:
        raise UserError("Nothing is left to learn in any block. Give more text.")
    ragged = partial(Column.ragged, group=TOKENS)
    ids = replace(ragged([values[one] for one in places], dtype=tokens.values.dtype),
                  fill=tokens.fill, longest=block, dtype=tokens.dtype)  # fmt: skip
    columns = {"token_ids": ids}
    if "padding_mask" in store.inputs.columns:
        columns["padding_mask"] = replace(
            ids, values=constant(1, len(ids.values), "int32"), fill=0, dtype=""
        )
    annotations = Rows.of({
        "bytes": np.array(sizes).round().astype("int64"),
        LEARNED: replace(ragged(taught, dtype="uint8"), longest=block),
    })  # fmt: skip
    digests = [hashlib.sha256(values[one].tobytes()).hexdigest() for one in places]
    filled = sum(map(len, places)) / (len(places) * block)
    say(f"packing: {len(part):,} texts in {len(places):,} blocks of {block} tokens, "
        f"{filled:.1%} filled, " + ("kept apart" if how == "isolated" else "in one stream"))
    key = hashlib.sha256("".join([store.key, how, *digests]).encode()).hexdigest()
    made = Examples(part.modality, digests, annotations,
                    tuple(f"block {i + 1}" for i in range(len(places))))  # fmt: skip
    return made, Store(Rows.of(columns), key if store.key else "")


def _pieces(starts: np.ndarray, ends: np.ndarray, block: int, start: int) -> list[np.ndarray]:
    """Return the places of the tokens of each document, or of each part of one that is too long.

    A part begins with the last token of the one before; one that leaves room for others in its
    block with the token that documents begin with, which keeps it apart from these.

    Args:
        starts: Where each document begins.
        ends: Where it ends.
        block: The tokens of a block.
        start: The place of the token that documents begin with.
    """
    made = []
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        for begin, end in packing.cut(last - first, block):
            place = np.arange(first + begin, first + end)
            if begin and len(place) < block:
                place = np.concatenate([[start], place[1:]])
            made.append(place)
    return made


def write(
    task: Generates, model: keras.Model, preprocess: Preprocess, texts: Sequence[str],
    seeds: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return what a model writes behind texts, a few at a time."""
    import tensorflow as tf

    assert isinstance(preprocess, LanguagePreprocess)
    preprocess([""])  # whoever sets TensorFlow's seed clears the tokenizer's kernel
    specs = [tf.TensorSpec([None], tf.string)]
    if seeds is not None:
        specs.append(tf.TensorSpec([None], tf.int64))
    written = tf.function(
        task.writer(model, preprocess), input_signature=specs, autograph=False
    )
    parts = []
    for i in range(0, len(texts), 16):
        given = [tf.constant(as_raw(texts[i : i + 16], "text").tolist())]
        if seeds is not None:
            given.append(tf.constant(seeds[i : i + 16], tf.int64))
        parts.append({name: value.numpy() for name, value in written(*given).items()})
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def begun(example: str, *, conversation: bool) -> Begun:
    """Return what an example begins with, and what it goes on with.

    A conversation is asked for its last answer; a document begins with its first half, or less of
    long ones, up to the end of a word.

    Args:
        example: A text as sources give it, or a part of one.
        conversation: Whether it is a conversation.

    Example:
        >>> begun("to be or not", conversation=False)
        Begun(shown='to be', sent='to be', truth=' or not')
    """
    if conversation:
        before, _, truth = example.rpartition(f"{TURN}assistant{SAID}")
        shown = before.removeprefix(TURN).replace(TURN, "\n").replace(SAID, ": ")
        return Begun(shown, before, truth)
    text = example.removesuffix(GOES_ON)
    most = min((len(text) + 1) // 2, BEGINNING)
    # A blank belongs to the word behind it: so vocabularies have it.
    found = [place for place in (text.rfind(" ", 1, most + 1), text.rfind("\n", 1, most + 1))
             if place > 0]  # fmt: skip
    place = max(found, default=most)
    return Begun(text[:place], text[:place], text[place:])
