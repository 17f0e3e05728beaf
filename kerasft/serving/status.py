"""How a request fails: with one of the canonical codes, as over gRPC, and words."""

from __future__ import annotations

# The code of HTTP that TensorFlow Serving gives each of them.
HTTP = {
    "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504, "UNIMPLEMENTED": 501, "INTERNAL": 500,
}  # fmt: skip


class Failure(Exception):
    """A request that cannot be answered.

    Args:
        code: One of `HTTP`.
        words: What is wrong with it.
    """

    def __init__(self, code: str, words: str):
        super().__init__(words)
        self.code, self.words = code, words


def invalid(words: str) -> Failure:
    """Return the failure of a request that is wrong in itself."""
    return Failure("INVALID_ARGUMENT", words)
