"""Texts that are changed before they are tokenized, by functions of (seed, epoch, example)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from kerasft.data import ending, preprocessing
from kerasft.data.store import Store
from kerasft.data.words import is_changeable
from kerasft.errors import UserError
from kerasft.raw_input import as_raw
from kerasft.rows import MULTIPLE, Rows
from kerasft.spec import Examples, TextPreprocess

# So many texts say how many of all have words to be changed.
SAMPLE = 1000


@dataclass(frozen=True)
class TextAugmenter(ending.Ending):
    """Changes the texts of a batch, and tokenizes what comes out.

    The tokens that are kept of the texts as they are cannot be used: a word that is gone or stands
    elsewhere may be cut into other tokens. So the texts of each batch are tokenized anew, in the
    graph, in parallel with the training steps. What comes out is what the preprocessing makes of
    the changed text, and of nothing else.

    Args:
        steps: The steps by name, in order: functions `(text, random) -> text`, `random` being a
            `random.Random` whose numbers depend on the seed, the epoch, the example, the text of a
            pair and the step's name alone.
        texts: The training texts, or pairs of texts.
        preprocess: What tokenizes them.
        seed: The run's seed.
        epochs: The epochs that are planned, see `ending.ends`.

    Example:
        >>> from kerasft.data.words import DeleteWords
        >>> made = TextAugmenter({"cut": DeleteWords(share=1, rate=0.5)}, ["one two"], None, 0)
        >>> sorted({made.text(epoch, 0) for epoch in range(20)})
        ['one', 'one two', 'two']
    """

    steps: Mapping[str, Any]
    texts: Sequence[Any]
    preprocess: TextPreprocess
    seed: int
    epochs: int | None = None

    def text(self, epoch: int, number: int) -> Any:
        """Return a text, or pair of texts, as it is in an epoch.

        Args:
            epoch: The epoch, from 0.
            number: Which one; beyond their count, the same text once more, changed otherwise.
        """
        return self._text(self._at_work(epoch), epoch, number)

    def _at_work(self, epoch: int) -> list[tuple[str, Any]]:
        ends = self.ends
        return [
            (name, step) for name, step in self.steps.items() if epoch < ends.get(name, epoch + 1)
        ]

    def _text(self, steps: Sequence[tuple[str, Any]], epoch: int, number: int) -> Any:
        whole = self.texts[number % len(self.texts)]
        if isinstance(whole, str):
            return self._changed(whole, steps, f"{self.seed}:{epoch}:{number}:0")
        return tuple(
            self._changed(part, steps, f"{self.seed}:{epoch}:{number}:{place}")
            for place, part in enumerate(whole)
        )

    def _changed(self, text: str, steps: Sequence[tuple[str, Any]], where: str) -> str:
        for name, step in steps:
            key = hashlib.blake2b(f"{where}:{name}".encode(), digest_size=8).digest()
            # A text that nothing is left of would teach a label of nothing.
            text = step(text, Random(int.from_bytes(key, "big"))) or text
        return text

    def raw(self, epoch: int, numbers: np.ndarray) -> np.ndarray:
        """Return the texts of a batch as a preprocessing takes them.

        Args:
            epoch: The epoch, from 0.
            numbers: `int64[batch]`, see `text`.
        """
        steps = self._at_work(epoch)
        return as_raw([self._text(steps, epoch, number) for number in numbers.tolist()], "text")

    @property
    def specs(self) -> dict[str, tuple[np.dtype, list[int | None]]]:
        """The type and shape of what `raw` returns."""
        return {"raw": (np.dtype(object), [None, 2] if self.preprocess.pair else [None])}

    def __call__(self, inputs: Any, targets: Any, epoch: Any, indices: Any) -> tuple[Any, Any]:
        """Tokenize the texts of a batch, in TensorFlow ops; for the arguments see `Augmenter`."""
        import tensorflow as tf

        rows = self.preprocess(inputs["raw"])
        width = tf.shape(rows["token_ids"])[1]
        # As wide as a batch of kept tokens is, see `Rows.gather`.
        wanted = tf.minimum(-(-width // MULTIPLE) * MULTIPLE, self.preprocess.sequence_length)
        beside = [[0, 0], [0, tf.maximum(wanted - width, 0)]]
        fills = {"token_ids": self.preprocess.pad}
        return {
            name: tf.ensure_shape(
                tf.pad(value, beside, constant_values=fills.get(name, 0)), [None, None]
            )
            for name, value in rows.items()
        }, targets

    def store(self, epoch: int) -> Store:
        """Return all examples as they are in an epoch, tokenized and held in memory."""
        texts = [self.text(epoch, number) for number in range(len(self.texts))]
        ids = tuple(map(str, range(len(texts))))
        return preprocessing.prepare(
            Examples("text", texts, Rows.of({}, len(texts)), ids), self.preprocess
        )


def require_changers(steps: Mapping[str, Any], modality: str) -> None:
    """Refuse steps of augmentation that are for inputs of another kind.

    Args:
        steps: The steps by name.
        modality: `"images"` or `"text"`.

    Raises:
        UserError: With the first such step.
    """
    for name, step in steps.items():
        if getattr(step, "changes_texts", False) != (modality == "text"):
            raise UserError(not_of(name, modality))


def displaced(names: Iterable[str]) -> str:
    """Say that steps move what is learned to other places of a text."""
    return (
        "augment: words that are left out or change places move the entities of a text, and "
        f"nothing follows them. Received: augment.{', augment.'.join(names)}. Set augment=none."
    )


def not_of(name: str, modality: str) -> str:
    """Say that a step of augmentation is for inputs of another kind than the data's."""
    if modality == "text":
        return (
            f"augment.{name} changes images, but the data is text. Choose augment=text or "
            "augment=none."
        )
    return (
        f"augment.{name} changes texts, but the data is images. Choose augment=light or "
        "augment=none."
    )


def unchangeable(texts: Sequence[Any]) -> str:
    """Say that most texts have no words to be changed, if so; a spread of them is looked at.

    Example:
        >>> unchangeable(["two words", "three more words"])
        ''
        >>> unchangeable(["สวัสดี", "one"])[:24]
        '100% of the training tex'
    """
    places = np.unique(np.linspace(0, len(texts) - 1, SAMPLE).astype(int))
    some = [texts[place] for place in places]
    fixed = sum(
        not any(map(is_changeable, (one,) if isinstance(one, str) else one)) for one in some
    )
    if 2 * fixed < len(some):
        return ""
    return (
        f"{fixed / len(some):.0%} of the training texts have a single word between blanks, which "
        "augmentation of words leaves as it is"
    )


def check_text_step(step: Any) -> None:
    """Check a step for `augment.NAME` of texts: it repeats, changes something, and leaves texts.

    Args:
        step: An object that is called with a text and a `random.Random`.

    Example:
        >>> from kerasft.data.words import SwapWords
        >>> check_text_step(SwapWords())
    """
    assert getattr(step, "changes_texts", False) is True, "It must have changes_texts = True."
    assert not ending.problem(getattr(step, "stop", 1.0)), ending.problem(step.stop)
    texts = ["", "one", "a film", "neither dull nor bright, and far too long for a Sunday evening"]
    found = [[step(text, Random(seed)) for text in texts] for seed in range(50)]
    assert all(isinstance(text, str) for row in found for text in row), "It must return a text."
    again = [[step(text, Random(seed)) for text in texts] for seed in range(50)]
    assert found == again, "Its numbers must come from the random.Random that it is handed."
    assert any(row != texts for row in found), "It must change some text."
    empty = [text for row in found for text in row[1:] if not text.strip()]
    assert not empty, "It must not leave a text empty."
