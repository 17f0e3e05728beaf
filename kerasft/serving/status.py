"""How a request fails: with one of the canonical codes, as over gRPC, and words."""

from __future__ import annotations

import re

# The code of HTTP that TensorFlow Serving gives each of them.
HTTP = {
    "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504, "UNIMPLEMENTED": 501, "INTERNAL": 500, "CANCELLED": 499,
    "PERMISSION_DENIED": 403,
}  # fmt: skip

# A client of gRPC takes 8 KB of words, in which a letter may be spelled in 12.
MOST_WORDS = 600


class Failure(Exception):
    """A request that cannot be answered.

    Args:
        code: One of `HTTP`.
        words: What is wrong with it. Only the beginning of a long text is kept, and halves of
            characters, which no client could read, are spelled out.
    """

    def __init__(self, code: str, words: str):
        words = words if len(words) <= MOST_WORDS else f"{words[: MOST_WORDS - 3]}..."
        words = words.encode("utf-8", "backslashreplace").decode()
        super().__init__(words)
        self.code, self.words = code, words


def invalid(words: str) -> Failure:
    """Return the failure of a request that is wrong in itself."""
    return Failure("INVALID_ARGUMENT", words)


# Where in the graph it came about, which says nothing to a client.
_PLACES = re.compile(
    r"^Graph execution error:\s*|\{\{function_node [^}]*\}\}\s*|\s*\[\[\{\{.*?\}\}\]\]",
    re.DOTALL,
)
_FIRST_OF_SEVERAL = re.compile(
    r"root error\(s\) found\.\s*\(0\) [A-Z_ ]+: (.*?)\s*\(1\) ", re.DOTALL
)


def in_words(message: str) -> str:
    """Return what TensorFlow says of an error, without the names of nodes and functions.

    Example:
        >>> in_words("{{function_node __wrapped__f}} no image\\n\\t [[{{node f/decode}}]]")
        'no image'
        >>> in_words("2 root error(s) found.\\n  (0) INTERNAL: one\\n  (1) CANCELLED: other")
        'one'
    """
    said = _PLACES.sub("", message)
    several = _FIRST_OF_SEVERAL.search(said)
    return (several[1] if several else said).strip()
