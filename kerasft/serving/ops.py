"""The operations of an artifact, against those that TensorFlow Serving links."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import lru_cache
from typing import Any

from kerasft.artifact.standalone import register_text_ops

# Run Python of the process that they were made in: a server has none.
PYTHON = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}
# Reach beyond the artifact, which a graph for prediction need not.
FILES = {
    "ReadFile", "WriteFile", "MatchingFiles", "SaveDataset", "SaveDatasetV2", "LoadDataset",
    "PrintV2", "Print",
}  # fmt: skip
# TensorFlow Text's ops that servers before this version lack (their TensorFlow Text is 2.12:
# https://github.com/tensorflow/serving/issues/2267).
LATE = {"TFText>RoundRobinTrim": "2.20", "TFText>RoundRobinGenerateMasks": "2.20"}

# The TensorFlow of the least server that is recommended, as `serving/compose.yaml` names it.
LEAST = (2, 20)


def promised(written: str) -> str:
    """Return which servers are not promised to read a graph, as words to add to a sentence.

    Args:
        written: The version of TensorFlow that wrote the graph.

    Example:
        >>> promised("2.20.0")
        ''
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", written)[:2])
    if numbers <= LEAST:
        return ""
    least, by = (".".join(map(str, version)) for version in (LEAST, numbers))
    return f", which servers from {by} on are promised to read; {least} is not tried here"


def nodes_of(graph: Any) -> Iterator[Any]:
    """Yield every node of a meta graph, those of its functions too."""
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def functions_of(graph: Any) -> set[str]:
    """Return the names of the functions in a meta graph, which nodes may have as operations."""
    return {function.signature.name for function in graph.graph_def.library.function}


@lru_cache(maxsize=1)
def linked() -> tuple[frozenset[str], frozenset[str]]:
    """Return the operations of TensorFlow, and those of TensorFlow Text.

    TensorFlow Text may be registered already in this process; its own are told apart by name.
    """
    before = _registered()
    register_text_ops()
    after = _registered()
    text = (after - before) | {name for name in after if name.startswith("TFText>")}
    text |= {name for name in after if name in _TEXT}
    return frozenset(after - text), frozenset(text)


def _registered() -> Set[str]:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session as session

    buffer = session.TF_GetAllOpList()
    return {op.name for op in op_def_pb2.OpList.FromString(session.TF_GetBuffer(buffer)).op}


_TEXT = frozenset({
    "CaseFoldUTF8", "ConstrainedSequence", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets",
    "FindSourceOffsets", "MaxSpanningTree", "NormalizeUTF8", "NormalizeUTF8WithOffsetsMap",
    "PhraseTokenize", "RegexSplitWithOffsets", "SentenceFragments", "SentenceFragmentsV2",
    "SentencepieceDetokenizeOp", "SentencepieceIdToStringOp", "SentencepieceOp",
    "SentencepieceStringToIdOp", "SentencepieceTokenizeOp", "SentencepieceTokenizeWithOffsetsOp",
    "SentencepieceVocabSizeOp", "SplitMergeTokenizeWithOffsets", "TokenizerFromLogits",
    "UnicodeScriptTokenizeWithOffsets", "WhitespaceTokenizeWithOffsets",
    "WordpieceTokenizeWithOffsets",
})  # fmt: skip
