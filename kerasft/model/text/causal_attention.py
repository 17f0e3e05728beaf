"""Attention of language models that leaves out what stands behind each position, on processors.

KerasHub's decoders compute the scores of all pairs of positions, half of which the mask then takes
away, and the mask anew in each layer. Here the queries go through in a few tiles, each against the
keys up to its own end; the mask is made once and added to the scores; and the backward pass is
written out, on nothing but the shares of each tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kerasft.model.dropping import staying

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# How many tiles long rows are cut into, how many positions a tile has at least (shorter rows are
# one tile), and what the positions of a tile are a multiple of.
TILES, LEAST, ROUND = 4, 64, 16
# What Keras puts in place of a score that is masked. A score of `float32` vanishes beside it.
HIDDEN = -1e9
# Of each decoder of KerasHub, the method that makes the mask, and where its attention is.
DECODERS = {
    "LlamaTransformerDecoder": ("_compute_self_attention_mask", "_self_attention_layer"),
    "MistralTransformerDecoder": ("_compute_self_attention_mask", "_self_attention_layer"),
    "QwenTransformerDecoder": ("_compute_self_attention_mask", "_self_attention_layer"),
    "TransformerDecoder": ("_compute_self_attention_mask", "_self_attention_layer"),
    "GemmaDecoderBlock": ("_compute_attention_mask", "attention"),
}  # fmt: skip


@contextmanager
def tiled(model: keras.Model) -> Iterator[list[Any]]:
    """Let the decoders of a model leave out what their masks hide while a block runs.

    Llama, Mistral, Qwen, GPT-2, OPT and Gemma are known, with grouped queries, sliding windows and
    dropout of shares. Left as they are: scores that are bent (Gemma 2's `logit_soft_cap`), Gemma 3,
    whose masks may look ahead, and all other classes. So is each call with a cache, which writing
    is made of, or with a mask that does not come from such a decoder.

    Args:
        model: A Keras model.

    Yields:
        The layers of attention that compute otherwise.
    """
    with ExitStack() as changed:
        found = []
        for block in model._flatten_layers(include_self=False):
            # A class of one's own may mean something else by the same names.
            if type(block).__module__.partition(".")[0] != "keras_hub":
                continue
            method, place = DECODERS.get(type(block).__name__, ("", ""))
            layer = getattr(block, place, None) if place else None
            compute = None if layer is None or not layer.built else _attention(layer)
            if compute is not None:
                changed.enter_context(_method(block, method, _marked(block, method)))
                changed.enter_context(_method(layer, "_compute_attention", compute))
                found.append(layer)
        yield found


@contextmanager
def _method(layer: keras.Layer, name: str, function: Callable) -> Iterator[None]:
    """Give one object another method, past Keras' tracking of attributes."""
    own = vars(layer).get(name)
    object.__setattr__(layer, name, function)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(layer, name)
        else:
            object.__setattr__(layer, name, own)


# --- masks


def _marked(block: keras.Layer, name: str) -> Callable:
    """Return what makes a decoder's mask, once for all of its kind, and says that it is causal."""
    own = getattr(block, name)
    kind = (type(block).__name__, getattr(block, "sliding_window", None))

    def compute(*args: Any, **named: Any) -> Any:
        import tensorflow as tf

        # Gemma's blocks give these in their order, the others by their names.
        given = dict(zip(("x", "padding_mask", "cache", "cache_update_index"), args)) | named  # noqa: B905
        cached = any(given.get(one) is not None for one in ("cache", "self_attention_cache"))
        masks = [given.get(one) for one in (
            "decoder_attention_mask", "decoder_padding_mask", "padding_mask"
        )]  # fmt: skip
        # Where there is no mask of padding, KerasHub takes the one that hangs on the sequence.
        masks += [getattr(given.get(one), "_keras_mask", None) for one in ("decoder_sequence", "x")]
        masks = [one for one in masks if one is not None]
        tensors = masks and all(isinstance(one, tf.Tensor) for one in masks)
        if cached or not tensors or not given.get("use_causal_mask", True):
            return own(*args, **named)
        mask = once(masks[0], (kind, *masks[1:]), lambda: own(*args, **named))
        mask._kerasft_causal = True
        return mask

    return compute


def once(tensor: tf.Tensor, key: tuple, make: Callable[[], Any]) -> Any:
    """Return what is made of a tensor, the same to all who ask within one graph.

    It lives as long as the tensor. Eagerly it does as well.
    """
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    held = getattr(tensor, "_kerasft_once", None)
    if held is None:
        held = tensor._kerasft_once = []
    for place, known, made in held:
        if place is graph and len(known) == len(key) and all(
            one is other if isinstance(one, tf.Tensor) else
            not isinstance(other, tf.Tensor) and one == other
            for one, other in zip(known, key, strict=True)
        ):  # fmt: skip
            return made
    made = make()
    held.append((graph, key, made))
    return made


def _added(mask: tf.Tensor) -> tuple[list[tuple[Any, Any, Any]], Any]:
    """Return the tiles of a mask, and which positions see anything at all.

    Args:
        mask: `[batch, positions, positions]`, 0 where nothing is seen.

    Returns:
        Of each tile its first position, the one after its last, and what is added to its scores,
        `float32[batch, 1, positions of the tile, positions up to its end]`; and
        `bool[batch, positions, 1, 1]`.
    """
    import tensorflow as tf

    seen = tf.cast(mask, tf.bool)
    length = mask.shape[1] if mask.shape[1] is not None else tf.shape(mask)[1]
    made = [
        (start, end, tf.where(seen[:, None, start:end, :end], 0.0, HIDDEN))
        for start, end in bounds(length)
    ]
    return made, tf.reduce_any(seen, axis=2)[:, :, None, None]


def bounds(length: int | tf.Tensor) -> list[tuple[Any, Any]]:
    """Return where the tiles of a row begin and end.

    Args:
        length: The positions of a row; a tensor where they are known in the graph alone. Then the
            last tiles of short rows are empty.

    Example:
        >>> bounds(200), bounds(60)
        ([(0, 64), (64, 128), (128, 192), (192, 200)], [(0, 60)])
    """
    import tensorflow as tf

    static = isinstance(length, int)
    least: Callable = min if static else tf.minimum
    size = (max if static else tf.maximum)(-(-length // (TILES * ROUND)) * ROUND, LEAST)
    ends = [least(size * place, length) for place in range(TILES + 1)]
    return [one for one in pairwise(ends) if not static or one[0] < one[1]]


# --- attention


def _attention(layer: keras.Layer) -> Callable | None:
    """Return what computes in place of a layer's `_compute_attention`, where that can be."""
    name = type(layer).__name__
    if name in ("LlamaAttention", "CachedMistralAttention", "QwenAttention"):
        return _of_llama(layer)
    if name == "CachedMultiHeadAttention":
        return _of_gpt2(layer)
    if name == "CachedGemmaAttention" and layer.logit_soft_cap is None:
        return _of_gemma(layer)
    return None


def _tiles(
    layer: keras.Layer, mask: tf.Tensor | None, tensors: Sequence[Any], window: int | None = None
) -> Any:
    """Return what is added to the scores, see `_added`; `None` where Keras is to compute."""
    import tensorflow as tf

    if not getattr(mask, "_kerasft_causal", False):
        return None
    if not all(isinstance(one, tf.Tensor) for one in tensors):
        return None
    return once(mask, ("added", window), lambda: _added(
        mask if window is None else layer._mask_sliding_window(mask)
    ))  # fmt: skip


def _of_llama(layer: keras.Layer) -> Callable:
    own = layer._compute_attention
    window = getattr(layer, "use_sliding_window_attention", False) or None
    window = window and layer.sliding_window_size

    def compute(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor,
        attention_mask: tf.Tensor | None = None, **rest: Any,
    ) -> Any:
        import tensorflow as tf

        found = _tiles(layer, attention_mask, (query, key, value), window)
        if found is None:
            return own(query, key, value, attention_mask, **rest)
        tiles, sees = found
        made = attend(query, key, value, tiles, layer._inv_norm_factor)
        return tf.where(sees, made, tf.zeros([], made.dtype))

    return compute


def _of_gemma(layer: keras.Layer) -> Callable:
    own = layer._compute_attention
    window = layer.sliding_window_size if layer.use_sliding_window_attention else None
    width = (
        layer.head_dim if layer.query_head_dim_normalize
        else layer.hidden_dim // layer.num_query_heads
    )
    groups = layer.num_query_heads // layer.num_key_value_heads

    def compute(
        q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, attention_mask: tf.Tensor | None,
        training: bool = False, cache_update_index: object = 0,
    ) -> Any:
        import tensorflow as tf

        found = _tiles(layer, attention_mask, (q, k, v), window)
        if found is None:
            return own(q, k, v, attention_mask, training=training,
                       cache_update_index=cache_update_index)  # fmt: skip
        k, v = (_repeated(one, groups) for one in (k, v))
        tiles, sees = found
        made = attend(q, k, v, tiles, width**-0.5, *_dropped(layer.dropout_layer, training))
        return tf.where(sees, made, tf.zeros([], made.dtype))

    return compute


def _of_gpt2(layer: keras.Layer) -> Callable | None:
    if layer._attention_axes != (1,) or layer._flash_attention or layer._sliding_window:
        return None
    own = layer._compute_attention

    def compute(
        query: tf.Tensor, key: tf.Tensor, value: tf.Tensor,
        attention_mask: tf.Tensor | None = None, training: bool | None = None,
        return_attention_scores: bool = False, **rest: Any,
    ) -> Any:
        import tensorflow as tf

        found = _tiles(layer, attention_mask, (query, key, value))
        if found is None or return_attention_scores or rest:
            return own(
                query=query, key=key, value=value, attention_mask=attention_mask,
                training=training, return_attention_scores=return_attention_scores, **rest,
            )
        tiles, sees = found
        made = attend(
            query, key, value, tiles, layer._inverse_sqrt_key_dim,
            *_dropped(layer._dropout_layer, training),
        )
        # To what sees nothing Keras gives the mean of all, or nothing where it has dropout.
        blind = tf.zeros([], made.dtype) if layer._dropout > 0 else tf.reduce_mean(
            value, axis=1, keepdims=True
        )
        return tf.where(sees, made, blind), None

    return compute


def _dropped(layer: keras.Layer, training: bool | None) -> tuple[float, Any]:
    """Return the share that a layer of dropout drops now, and the seed to do it by."""
    if not training or not layer.rate:
        return 0.0, None
    return layer.rate, layer.seed_generator.next()


def _repeated(heads: tf.Tensor, groups: int) -> Any:
    import tensorflow as tf

    return heads if groups == 1 else tf.repeat(heads, groups, axis=2)


def attend(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, tiles: Sequence[tuple[Any, Any, Any]],
    scale: float, rate: float = 0.0, seed: tf.Tensor | None = None,
) -> Any:
    """Return what each position reads off those up to itself, with a gradient of its own.

    Softmax is computed in `float32`.

    Args:
        query: `[batch, positions, heads, width]`.
        key: The same.
        value: The same, maybe of another width.
        tiles: See `_added`; they cover all positions.
        scale: What scores are multiplied by.
        rate: The share of what softmax gives that is dropped.
        seed: See `dropping.drop`.

    Returns:
        `[batch, positions, heads, width of value]`.
    """
    import tensorflow as tf

    kind = query.dtype
    stays = [None] * len(tiles) if seed is None else _staying(query, tiles, rate, seed)
    raised = 1.0 / (1.0 - rate)

    def turned(one: tf.Tensor, factor: float = 1.0) -> Any:
        one = tf.transpose(one, [0, 2, 1, 3])
        return one if factor == 1.0 else one * tf.cast(factor, kind)

    def joined(parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=2)

    @tf.custom_gradient
    def attended(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tuple[Any, Callable]:
        q, k, v = turned(query, scale), turned(key), turned(value)
        shares, parts = [], []
        for (start, end, added), stay in zip(tiles, stays, strict=True):
            scores = tf.matmul(q[:, :, start:end], k[:, :, :end], transpose_b=True)
            share = tf.cast(tf.nn.softmax(tf.cast(scores, tf.float32) + added), kind)
            shares.append(share)
            parts.append(tf.matmul(_kept(share, stay), v[:, :, :end]))
        outputs = joined(parts)

        def gradient(upstream: tf.Tensor) -> tuple[Any, Any, Any]:
            of_output = turned(upstream, raised)
            along = tf.reduce_sum(
                tf.cast(of_output, tf.float32) * tf.cast(outputs, tf.float32), 3, keepdims=True
            )
            of_q, of_k, of_v = [], [], []
            for (start, end, _), stay, share in zip(tiles, stays, shares, strict=True):
                above = of_output[:, :, start:end]
                of_share = _kept(tf.matmul(above, v[:, :, :end], transpose_b=True), stay)
                of_scores = tf.cast(
                    tf.cast(share, tf.float32)
                    * (tf.cast(of_share, tf.float32) - along[:, :, start:end]), kind
                )  # fmt: skip
                of_q.append(tf.matmul(of_scores, k[:, :, :end]))
                of_k.append(tf.matmul(of_scores, q[:, :, start:end], transpose_a=True))
                of_v.append(tf.matmul(_kept(share, stay), above, transpose_a=True))
            return turned(joined(of_q), scale), turned(_summed(of_k)), turned(_summed(of_v))

        return turned(outputs, raised), gradient

    made = attended(query, key, value)
    made.set_shape([*query.shape[:3], value.shape[3]])
    return made


def _summed(parts: list[Any]) -> Any:
    """Add up what the tiles say of the keys that each sees; the last one sees all."""
    import tensorflow as tf

    total = parts[-1]
    for part in parts[:-1]:
        rest = tf.shape(total)[2] - tf.shape(part)[2]
        total += tf.pad(part, [[0, 0], [0, 0], [0, rest], [0, 0]])
    return total


def _kept(shares: tf.Tensor, stays: tf.Tensor | None) -> Any:
    import tensorflow as tf

    return shares if stays is None else shares * tf.cast(stays, shares.dtype)


def _staying(
    query: tf.Tensor, tiles: Sequence[tuple[Any, Any, Any]], rate: float, seed: tf.Tensor
) -> list:
    """Return of each tile which shares stay, all drawn in one go."""
    import tensorflow as tf

    many = tf.shape(query)[0] * tf.shape(query)[2]
    sizes = [many * (end - start) * end for start, end, _ in tiles]
    drawn = tf.split(staying(tf.add_n(sizes), rate, seed), sizes)
    return [
        tf.reshape(one, [tf.shape(query)[0], tf.shape(query)[2], end - start, end])
        for one, (start, end, _) in zip(drawn, tiles, strict=True)
    ]
