"""Characters of texts that a tokenizer drops, told before anything is learned of them."""

from __future__ import annotations

import unicodedata
from itertools import islice

from kerasft.contracts import Located, Task
from kerasft.errors import some
from kerasft.model.text.tokenizing import dropped_by
from kerasft.spec import Preprocess, Splits, takes_texts
from kerasft.system.console import listing, warn

# The most texts of a split that are looked at.
MOST = 100_000


def tell_dropped(splits: Splits, preprocess: Preprocess, task: Task) -> None:
    """Name the texts with characters that the tokenizer leaves out without a token.

    Args:
        splits: The examples as they were read.
        preprocess: What turns them into tokens.
        task: What is learned of them.
    """
    if not takes_texts(preprocess):
        return
    signs = dropped_by(getattr(preprocess, "tokenizer", None))
    for name, part in splits.parts.items() if signs else ():
        found = [
            place for place, text in enumerate(islice(part.inputs, MOST))
            if any(sign in one for one in (text if isinstance(text, tuple) else (text,))
                   for sign in signs)
        ]  # fmt: skip
        if not found:
            continue
        named = ", ".join(
            f"{sign!r} (U+{ord(sign):04X}, {unicodedata.name(sign)})" for sign in signs
        )
        lost = "the network does not see it"
        if isinstance(task, Located):
            lost += ", and of such a text no word is tagged"
        warn(f"{name}: {some(len(found), 'text')} with {named}, which KerasHub's byte-pair "
             f"tokenizers take for a mark of their own and leave out: {lost}: "
             f"{listing(part.ids[place] for place in found)}. Replace it in the data (6, say), or "
             "choose a backbone with another tokenizer")
