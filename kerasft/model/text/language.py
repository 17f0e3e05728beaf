"""Texts and conversations as a language model reads them: in training, answering and exports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerasft.model.text import templates
from kerasft.model.text.templates import GOES_ON, SAID, TURN, Segment
from kerasft.model.text.tokenizing import called, tokens_of
from kerasft.spec import Modality
from kerasft.system.files import write_json

if TYPE_CHECKING:
    import keras_hub
    import tensorflow as tf

LossOn = Literal["answers", "all"]
# The column that says of each token whether it is learned: 0, 1, or `END` for one that ends an
# answer or a document.
LEARNED, END = "learned", 2
# Longer than any text, and still an int32.
ENDLESS = 2**30


class LanguagePreprocess:
    """Tokenizes documents, or conversations by a template, for a language model.

    Without a template a text is a document: `start tokens end`. With one it is a conversation, see
    `conversation`, or what a user says. Each part is tokenized by itself, so that a prompt has the
    same tokens whether its answer is there or not.

    Args:
        tokenizer: A KerasHub tokenizer.
        inputs: The names of the network's inputs, `token_ids` and `padding_mask`.
        sequence_length: The most tokens in a row; what is longer loses its end.
        template: Its pieces by name, see `kerasft.model.text.templates`; `None` for documents.
        loss_on: Of conversations, whether `"answers"` are learned, or `"all"`.
        labelled: Whether a column `learned` says which tokens are learned.
    """

    modality: Modality = "text"
    pair = doubled = False

    def __init__(
        self, tokenizer: keras_hub.tokenizers.Tokenizer, *, inputs: tuple[str, ...],
        sequence_length: int, template: Mapping[str, str] | None = None,
        loss_on: LossOn = "answers", labelled: bool = False,
    ):
        self.tokenizer, self.sequence_length = tokenizer, int(sequence_length)
        self.template = None if template is None else dict(template)
        self.loss_on, self.labelled = loss_on, labelled
        self.network_inputs = tuple(inputs)
        self.inputs = (*self.network_inputs, LEARNED) if labelled else self.network_inputs
        self.start = templates.special(tokenizer, "start")
        self.end = templates.special(tokenizer, "end")
        self.pad = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.stops = templates.stops(self.template, tokenizer)
        self.trackables = (tokenizer,)
        if not tokenizer.built:
            tokenizer.build(None)
        self._roles, self._table = self._tabled()
        self._traced: dict[str, Any] = {}

    def paired(self, pair: bool) -> LanguagePreprocess:
        """Return this preprocessing: it takes one text an example."""
        return self

    def learning(self, *, whole: bool = False) -> LanguagePreprocess:
        """Return the same preprocessing with a column that says which tokens are learned.

        Args:
            whole: Whether nothing is cut off.
        """
        length = ENDLESS if whole else self.sequence_length
        return LanguagePreprocess(
            self.tokenizer, inputs=self.network_inputs, sequence_length=length,
            template=self.template, loss_on=self.loss_on, labelled=True,
        )

    def _tabled(self) -> tuple[list[str], dict[str, np.ndarray]]:
        """Return the roles, and the segments of each as arrays, filled up to the longest."""
        if self.template is None:
            start = [] if self.start is None else [Segment(self.start)]
            end = [] if self.end is None else [Segment(self.end, answer=True)]
            said = [*start, Segment(content=True, answer=True)]
            parts = {"document": [*said, *end], "part": said}
        else:
            parts = templates.segments(self.template, self.tokenizer)
        roles, wide = list(parts), max(map(len, parts.values()))
        rows = [[*parts[role], *[Segment()] * (wide - len(parts[role]))] for role in roles]

        def of(name: str, kind: Any) -> np.ndarray:
            return np.array([[getattr(one, name) for one in row] for row in rows], kind)

        table = {"token": of("token", "int32"), "before": of("before", object),
                 "after": of("after", object), "content": of("content", bool),
                 "answer": of("answer", "int32")}  # fmt: skip
        if self.template is not None and self.loss_on == "all":
            first = np.array([[role == "begin"] for role in roles])
            table["answer"] = np.maximum(table["answer"], ~first)
        # The end of an answer is counted by itself.
        ends = of("answer", bool) & (table["token"] >= 0)
        table["answer"] = np.where(ends, END, table["answer"]).astype("int32")
        return roles, table

    def __call__(self, raw: tf.Tensor | Sequence[Any]) -> Any:
        return self._run("rows", raw)

    def prompts(self, raw: tf.Tensor) -> Any:
        """Return the tokens that an answer is to follow, without any that is there already.

        Args:
            raw: `tf.string[batch]`.

        Returns:
            `tf.RaggedTensor` `int32[batch, (tokens)]`.
        """
        return self._run("prompts", raw)

    def taught(self, raw: tf.Tensor) -> Any:
        """Return of each token of whole texts whether it is learned, see `LEARNED`.

        Args:
            raw: `tf.string[batch]`.

        Returns:
            `tf.RaggedTensor` `int32[batch, (tokens)]`.
        """
        return self._run("taught", raw)

    def _run(self, name: str, raw: tf.Tensor | Sequence[Any]) -> Any:
        import tensorflow as tf

        raw = tf.convert_to_tensor(raw, tf.string)

        def traced() -> Any:
            function = {
                "rows": self._rows, "prompts": self._prompts,
                "taught": lambda texts: self._tokens(*self._turns(texts, prompt=False))[1],
            }[name]
            spec = tf.TensorSpec([None], tf.string)
            self._traced[name] = tf.function(function, input_signature=[spec], autograph=False)
            return self._traced[name]

        def anew() -> Any:
            self._traced.clear()
            return traced()(raw)

        return called(
            self.tokenizer, lambda: (self._traced.get(name) or traced())(raw), anew
        )

    def _rows(self, raw: tf.Tensor) -> dict[str, Any]:
        import tensorflow as tf

        tokens, learned = self._tokens(*self._turns(raw, prompt=False))
        tokens = tokens[:, : self.sequence_length]
        learned = learned[:, : self.sequence_length]
        # A text without any token still needs one position.
        lengths = tf.maximum(tokens.row_lengths(), 1)
        masked = "padding_mask" in self.inputs
        width = tf.reduce_max(lengths) if masked else self.sequence_length
        shape = tf.stack([-1, tf.cast(width, tf.int64)])
        made = {
            "token_ids": tokens.to_tensor(self.pad, shape=shape),
            "padding_mask": tf.sequence_mask(lengths, width),
            LEARNED: learned.to_tensor(0, shape=shape),
        }
        return {name: tf.cast(made[name], tf.int32) for name in self.inputs}

    def _prompts(self, raw: tf.Tensor) -> Any:
        return self._tokens(*self._turns(raw, prompt=True))[0]

    def _turns(self, raw: tf.Tensor, *, prompt: bool) -> tuple[Any, Any, Any]:
        """Return which role speaks in each turn, what is said, and how many turns each text has."""
        import tensorflow as tf

        count = tf.size(raw, tf.int64)
        if self.template is None:
            part = tf.strings.regex_full_match(raw, f"(?s).*{GOES_ON}")
            said = tf.strings.regex_replace(raw, f"{GOES_ON}$", "")
            role = tf.ones_like(part, tf.int32) if prompt else tf.cast(part, tf.int32)
            return role, said, tf.ones([count], tf.int64)
        told = tf.strings.regex_full_match(raw, f"(?s){TURN}.*")
        # What one says alone holds no turns.
        alone = tf.strings.join([
            f"{TURN}user{SAID}", tf.strings.regex_replace(raw, f"[{TURN}{SAID}]", " ")
        ])
        whole = tf.where(told, raw, alone)
        if prompt:
            whole = tf.strings.regex_replace(whole, f"(?s){TURN}assistant{SAID}[^{TURN}]*$", "")
            whole = tf.strings.join([whole, f"{TURN}prompt{SAID}"])
        whole = tf.strings.join([f"begin{SAID}", whole])
        turns = tf.strings.split(whole, TURN)
        names = tf.strings.regex_replace(turns.flat_values, f"(?s){SAID}.*", "")
        said = tf.strings.regex_replace(turns.flat_values, f"(?s)^[^{SAID}]*{SAID}", "")
        which = names[:, None] == tf.constant(self._roles)[None]
        return tf.argmax(which, axis=1, output_type=tf.int32), said, turns.row_lengths()

    def _tokens(self, role: tf.Tensor, said: tf.Tensor, counts: tf.Tensor) -> tuple[Any, Any]:
        """Return the tokens of each text, and whether each is learned, as ragged tensors."""
        import tensorflow as tf

        said = self._plain(said)
        table = {name: tf.gather(tf.constant(values), role) for name, values in self._table.items()}
        wide = self._table["token"].shape[1]
        content = tf.where(table["content"], said[:, None], "")
        texts = tf.strings.join([table["before"], content, table["after"]])
        # All in one go: a tokenizer makes the largest part of the graph.
        pieces = tokens_of(self.tokenizer, tf.reshape(texts, [-1]))
        number = tf.reshape(table["token"], [-1, 1])
        single = tf.ragged.boolean_mask(number, number >= 0)
        pieces = tf.concat([single, tf.cast(pieces, tf.int32)], axis=1)
        answer = tf.reshape(table["answer"], [-1])
        lengths = pieces.row_lengths()
        learned = tf.repeat(answer, lengths)
        turns = tf.reduce_sum(tf.reshape(lengths, [-1, wide]), axis=1)
        of_text = tf.math.segment_sum(
            turns, tf.repeat(tf.range(tf.size(counts, tf.int64)), counts)
        )
        return tuple(
            tf.RaggedTensor.from_row_lengths(values, of_text, validate=False)
            for values in (pieces.flat_values, learned)
        )

    def _plain(self, said: tf.Tensor) -> Any:
        """Return what is said with a blank inside of what a tokenizer would take for a token.

        Byte-pair tokenizers of KerasHub look for special tokens in every text.
        """
        import tensorflow as tf

        by_letter: dict[str, list[str]] = {}
        for one in self._written:
            by_letter.setdefault(one[0], []).append(re.escape(one[1:]))
        for letter, rest in by_letter.items():
            pattern = f"({re.escape(letter)})({'|'.join(rest)})"
            said = tf.strings.regex_replace(said, pattern, r"\1 \2")
        return said

    @property
    def _written(self) -> list[str]:
        """The special tokens as they are written, those of several letters, the longest first."""
        names = [*(getattr(self.tokenizer, "unsplittable_tokens", None) or ())]
        if hasattr(self.tokenizer, "merges"):
            names += [self.tokenizer.id_to_token(one) for one in self.special]
        return sorted({one for one in map(str, names) if len(one) > 1}, key=lambda one: -len(one))

    def texts(self, tokens: tf.RaggedTensor) -> Any:
        """Return tokens as texts, without those that are no text.

        Args:
            tokens: `tf.RaggedTensor` `int32[batch, (tokens)]`.

        Returns:
            `tf.string[batch]`.
        """
        import tensorflow as tf

        if special := self.special:
            odd = tf.reduce_any(
                tokens.flat_values[:, None] == tf.constant(special, tf.int32)[None], axis=1
            )
            tokens = tf.ragged.boolean_mask(tokens, tokens.with_flat_values(~odd))
        made = getattr(self.tokenizer, "_detokenize_tf", self.tokenizer.detokenize)(tokens)
        return tf.reshape(made, [-1])

    @property
    def special(self) -> list[int]:
        """The numbers of tokens that stand for no text."""
        own = self._table["token"]
        found = {*map(int, own[own >= 0]), *self.stops}
        found |= {int(n) for n in getattr(self.tokenizer, "special_token_ids", ()) if n is not None}
        return sorted(found)

    def save(self, directory: str | Path) -> None:
        """Write the tokenizer and what else `load` needs."""
        self.tokenizer.save_to_preset(str(Path(directory) / "tokenizer"))
        write_json(Path(directory) / "preprocess.json", {
            "modality": "text", "inputs": list(self.network_inputs),
            "sequence_length": self.sequence_length, "template": self.template,
            "loss_on": self.loss_on, "labelled": self.labelled,
        })  # fmt: skip


def conversation(turns: list[tuple[str, str]]) -> str:
    """Return a conversation as one text.

    Args:
        turns: Roles, `"system"`, `"user"` or `"assistant"`, and what each says.

    Example:
        >>> conversation([("user", "Hello"), ("assistant", "Hi!")])
        '\\x1euser\\x1fHello\\x1eassistant\\x1fHi!'
    """
    return "".join(f"{TURN}{role}{SAID}{said}" for role, said in turns)
