"""The settings that an adapter may have, known before a network is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kerasft.errors import shown
from kerasft.system.recorded import is_number


@dataclass(frozen=True)
class LowRankSettings:
    """The settings of `adapt.lora` as they are given, sound or not: see `kerasft explain adapt`."""

    rank: Any = 8
    alpha: Any = 16.0
    dropout: Any = 0.0
    targets: Any = None
    layers: Any = 1.0
    base: Any = "float"

    def problems(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the setting and what is wrong with it, for each that is out of its range.

        Args:
            name: The name of the node in `adapt`.

        Example:
            >>> [text for _, text in LowRankSettings(rank=0).problems("lora")]
            ['adapt.lora.rank must be a whole number of at least 1. Received: 0.']
        """
        allowed = {
            "rank": (type(self.rank) is int and self.rank >= 1,
                     "must be a whole number of at least 1"),
            "alpha": (is_number(self.alpha) and 0 < self.alpha < math.inf,
                      "must be a number above 0"),
            "dropout": (is_number(self.dropout) and 0 <= self.dropout < 1,
                        "is a share: from 0 to below 1"),
            "layers": (is_number(self.layers) and 0 < self.layers <= 1,
                       "is a share of the backbone's layers: above 0, up to 1"),
            "base": (self.base in ("float", "int8"), "must be float or int8"),
            "targets": (self.targets is None or bool(_words(self.targets)),
                        "must be a list of regular expressions on the paths of layers, or null "
                        "for all that fit"),
        }  # fmt: skip
        for key, (is_right, must) in allowed.items():
            if not is_right:
                yield key, f"adapt.{name}.{key} {must}. Received: {shown(getattr(self, key))}."
        for one in _words(self.targets):
            try:
                re.compile(one)
            except re.error as error:
                yield "targets", (
                    f"adapt.{name}.targets: {shown(one)} is no regular expression: {error}."
                )


def _words(value: object) -> list[str]:
    """Return a list of words, and an empty one for anything else."""
    is_one = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return list(value) if is_one else []  # type: ignore[call-overload]
