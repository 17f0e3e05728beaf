"""The head of a language model: the embedding of its tokens, read backwards."""

from __future__ import annotations

from typing import Any

from kerasft.errors import UserError
from kerasft.spec import Features


def tied(features: Features) -> Any:
    """How likely each token is for what stands before it, by the network's own embedding.

    No weights are added: tokens are read off by the embedding that they were put in by, or by the
    matrix that the network has for it.

    Args:
        features: `Features` of a network that reads from left to right.

    Returns:
        A tensor `float32[batch, positions, 3]`: the nats that each token cost, whether the
        likeliest one was right, and whether it is no padding. Logits of large vocabularies are
        computed a slice after the other, and never held.

    Raises:
        UserError: If the network is no language model.
    """
    from kerasft.model.text.next_token import SLICED, EveryToken, NextToken, NextTokenSliced

    embedding = features.embedding
    if not features.causal or embedding is None or features.tokens is None:
        raise UserError(
            "head=language needs a network that reads from left to right and embeds tokens, such "
            "as GPT-2, Llama, Gemma, Mistral or Qwen. This one "
            + ("reads in both directions, as BERT does." if not features.causal
               else "has no embedding of tokens that can be read backwards.")
        )
    mask = [] if features.mask is None else [features.mask]
    cap = getattr(embedding, "logit_soft_cap", None)
    if embedding.input_dim <= SLICED or not embedding.tie_weights:
        logits = embedding(features.sequence, reverse=True)
        return NextToken(name="head_next_token")(logits, features.tokens, *mask)
    every = EveryToken(embedding.input_dim, name="head_every_token")(features.tokens)
    layer = NextTokenSliced(soft_cap=cap, name="head_next_token")
    return layer(features.sequence, features.tokens, embedding(every), *mask)
