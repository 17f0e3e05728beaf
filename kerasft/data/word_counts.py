"""Texts as weighted counts of their words and pairs of words: what needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# A word is what stands between spaces and punctuation, with its vowel signs, which `\w` leaves out.
# Where words are written without spaces between them, each sign counts.
_UNSPACED = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff"
)
_BETWEEN = r"\s!-/:-@\[-`{-~\u00a1-\u00bf\u0964\u0965\u2010-\u2027\u2030-\u205e\u3000-\u303f"
WORD = rf"[{_UNSPACED}]|[^{_BETWEEN}{_UNSPACED}]+"
MOST_WORDS = 50_000


class WordCounts:
    """Counts words and pairs of words, and weighs them by how rare they are (TF-IDF).

    Of pairs of texts there are the counts of each text, of what both share, and the cosine of the
    two. Sparck Jones, "A statistical interpretation of term specificity and its application in
    retrieval", 1972, https://doi.org/10.1108/eb026526.

    Args:
        texts: The training texts, or pairs of texts: the vocabulary is theirs.
        most: How many words and pairs of words are counted at most, the most frequent ones.

    Example:
        >>> counts = WordCounts(["a good film", "a bad film"])
        >>> counts(["a film", "good good"]).shape
        (2, 8)
    """

    def __init__(self, texts: Sequence[Any], most: int = MOST_WORDS):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.pair = isinstance(texts[0], tuple | list)
        flat = [one for text in texts for one in text] if self.pair else list(texts)
        # A word of one text alone says nothing of others, but of a few texts each word counts.
        self._vectorizer = TfidfVectorizer(
            token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=most,
            min_df=2 if len(flat) > 1000 else 1, dtype=np.float64,
        )
        try:
            self._vectorizer.fit(flat)
        except ValueError:  # there is no word in them
            self._vectorizer = None

    def __call__(self, texts: Sequence[Any]) -> Any:
        """Return the counts of texts, a `scipy.sparse` matrix with a row a text."""
        from scipy import sparse

        if self._vectorizer is None:
            return sparse.csr_matrix((len(texts), 1))
        if not self.pair:
            return self._vectorizer.transform(texts)
        first, second = (self._vectorizer.transform([t[i] for t in texts]) for i in (0, 1))
        both = first.multiply(second).tocsr()
        return sparse.hstack([first, second, both, both.sum(axis=1)]).tocsr()
