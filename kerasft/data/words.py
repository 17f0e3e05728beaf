"""Augmentation of texts, word by word: some are left out, others change places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from kerasft.data import ending

# Han, kana and bopomofo, which are written without blanks and of which each character is a word
# here; of all else, what stands between blanks.
_WHOLE = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u312f\u31a0-\u31ff\u3400-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(f"([{_WHOLE}]|[^\\s{_WHOLE}]+)")


def split(text: str) -> tuple[list[str], list[str]]:
    """Return the words of a text, and what stands before each of them and behind the last.

    Words are what stands between blanks; of Chinese and Japanese each character is one. Scripts
    that have neither (Thai, Lao, Khmer) come as one long word, which nothing here changes.

    Example:
        >>> split("one  two")
        (['one', 'two'], ['', '  ', ''])
        >>> split("新しい film")[0]
        ['新', 'し', 'い', 'film']
    """
    pieces = _WORD.split(text)
    return pieces[1::2], pieces[::2]


def is_changeable(text: str) -> bool:
    """Whether a text has words to be left out or exchanged: at least two.

    Example:
        >>> is_changeable("two words"), is_changeable("one"), is_changeable("")
        (True, False, False)
    """
    return len(_WORD.findall(text)) > 1


class _ChangesWords:
    """Changes the words of a share of the texts, if they have at least two.

    Each step declares the settings itself: a config is checked against the code of its class.
    """

    rate: float
    share: float
    stop: float

    changes_texts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("share", self.share)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1. Received: {value}")
        ending.check(self.stop)

    def __call__(self, text: str, random: Random) -> str:
        if random.random() >= self.share:
            return text
        words, gaps = split(text)
        return text if len(words) < 2 else self._changed(words, gaps, random)

    def _changed(self, words: list[str], gaps: list[str], random: Random) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class DeleteWords(_ChangesWords):
    """Leaves some words of a text out, before it is tokenized.

    Random deletion of Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance
    on Text Classification Tasks", 2019, <https://arxiv.org/abs/1901.11196>. At least one word
    stays. Texts of one word stay as they are, and so do those of scripts without blanks (Thai, Lao,
    Khmer); of Chinese and Japanese each character is a word.

    Args:
        rate: The probability with which a word is left out, above 0 and at most 1.
        share: The share of the texts in which words are left out, drawn anew in each epoch.
        stop: When it ends: the share of all epochs after which texts stay as they are, above 0
            and at most 1 (0.9 leaves the last tenth without, rounded so that at least the last
            epoch is; 1 never stops), or a negative whole number (-5 leaves the last five epochs
            without). The epochs of all stages count, as planned.

    Example:
        `kerasft train augment=text augment.delete.rate=0.2 ~augment.swap`

        >>> DeleteWords(rate=0.5, share=1.0)("a rather dull film", Random(1))
        'a rather'
    """

    rate: float = 0.1
    share: float = 0.5
    stop: float = 1.0

    def _changed(self, words: list[str], gaps: list[str], random: Random) -> str:
        kept = [i for i in range(len(words)) if random.random() >= self.rate]
        first, *others = kept or [random.randrange(len(words))]
        # With a word goes the gap before it; what the text begins and ends with stays.
        rest = "".join(gaps[i] + words[i] for i in others)
        return f"{gaps[0]}{words[first]}{rest}{gaps[-1]}"


@dataclass(frozen=True)
class SwapWords(_ChangesWords):
    """Lets words of a text change places, before it is tokenized.

    Random swap of Wei and Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on
    Text Classification Tasks", 2019, <https://arxiv.org/abs/1901.11196>. Texts of one word stay as
    they are, and so do those of scripts without blanks (Thai, Lao, Khmer); of Chinese and Japanese
    each character is a word.

    Args:
        rate: How many pairs change places, as a share of the words of the text; at least one.
        share: The share of the texts in which words change places, drawn anew in each epoch.
        stop: When it ends: the share of all epochs after which texts stay as they are, above 0
            and at most 1 (0.9 leaves the last tenth without, rounded so that at least the last
            epoch is; 1 never stops), or a negative whole number (-5 leaves the last five epochs
            without). The epochs of all stages count, as planned.

    Example:
        `kerasft train augment=text augment.swap.rate=0.2 augment.swap.share=1`

        >>> SwapWords(share=1.0)("a rather dull film", Random(1))
        'rather a dull film'
    """

    rate: float = 0.1
    share: float = 0.5
    stop: float = 1.0

    def _changed(self, words: list[str], gaps: list[str], random: Random) -> str:
        for _ in range(max(int(self.rate * len(words)), 1)):
            one, other = random.sample(range(len(words)), 2)
            words[one], words[other] = words[other], words[one]
        return "".join(gap + word for gap, word in zip(gaps, [*words, ""], strict=True))
