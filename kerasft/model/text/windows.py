"""Long rows of tokens, read in windows that overlap. This file imports Keras alone.

A network that reads so many tokens at once is run on windows of a longer row, each with the special
tokens around it, and each token is answered by the window in which it has most context, as of the
paragraphs of questions in Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", 2018, https://arxiv.org/abs/1810.04805. All of it happens in the graph, and
a row that is no longer than a window is read as the network itself would read it.
"""

from __future__ import annotations

import keras
from keras import ops


class Unfit(ValueError):
    """A network that cannot be run on windows."""


class _Windowing(keras.layers.Layer):
    """Knows where the windows of a row begin.

    Args:
        length: The most tokens of a window, special ones among them.
        overlap: Tokens that a window shares with the next one; the last one begins earlier, so
            that it is full, and shares more.
        start: The token that a row begins with, or `None`.
        end: The token that it ends with, or `None`.
    """

    def __init__(self, length, overlap, start, end, **kwargs):
        # Features pass as they are, whatever a layer computes in.
        super().__init__(autocast=False, **kwargs)
        self.length, self.overlap, self.start, self.end = length, overlap, start, end
        self.before = int(start is not None)
        self.room = length - self.before - (end is not None)
        self.step = self.room - overlap

    def windows(self, mask):
        """Return where windows begin, `int32[batch, windows]`, and how wide they are.

        Windows that a row does not need begin where its last one does.
        """
        width = ops.shape(mask)[1]
        beyond = width - self.length
        if isinstance(width, int):
            count, wide = 1 + max(-(-beyond // self.step), 0), min(width, self.length)
        else:
            count = 1 + ops.maximum((beyond + self.step - 1) // self.step, 0)
            wide = ops.minimum(width, self.length)
        frame = self.length - self.room
        most = ops.maximum(ops.sum(ops.cast(mask, "int32"), axis=1) - frame - self.room, 0)
        begins = ops.expand_dims(ops.arange(count, dtype="int32") * self.step, 0)
        return ops.minimum(begins, ops.expand_dims(most, 1)), wide

    def get_config(self):
        return {
            **super().get_config(), "length": self.length, "overlap": self.overlap,
            "start": self.start, "end": self.end,
        }


@keras.saving.register_keras_serializable("kerasft")
class IntoWindows(_Windowing):
    """Cuts rows into windows: `int32[batch, positions]` by name to `[batch * windows, length]`."""

    # What comes out has not a row an example.
    splits_rows = True

    def call(self, columns):
        mask = columns["padding_mask"]
        begins, wide = self.windows(mask)
        at = ops.reshape(ops.arange(wide, dtype="int32"), (1, 1, -1))
        # The start token is that of the row, and all else what the window holds.
        places = ops.where(at < self.before, at, ops.expand_dims(begins, 2) + at)
        places = ops.reshape(places, (ops.shape(mask)[0], -1))
        made = {
            name: ops.reshape(ops.take_along_axis(one, places, axis=1), (-1, wide))
            for name, one in columns.items()
        }
        if self.end is not None:
            # A full window ends as a row does, also where the text goes on.
            last = ops.logical_and(ops.cast(made["padding_mask"], "bool"),
                                   at[0] == self.length - 1)  # fmt: skip
            ids = made["token_ids"]
            made["token_ids"] = ops.where(last, ops.cast(self.end, ids.dtype), ids)
        return made

    def compute_output_spec(self, columns):
        return {name: keras.KerasTensor((None, None), dtype=one.dtype)
                for name, one in columns.items()}  # fmt: skip


@keras.saving.register_keras_serializable("kerasft")
class OutOfWindows(_Windowing):
    """Puts what windows say back into rows: `[batch * windows, length, width]` to one a token.

    Args:
        causal: Whether a token sees those before it alone: then the first window that holds it has
            most context, else the one whose ends are farther from it.
    """

    joins_rows = True

    def __init__(self, length, overlap, start, end, causal=False, **kwargs):
        super().__init__(length, overlap, start, end, **kwargs)
        self.causal = causal

    def call(self, features, mask):
        begins, wide = self.windows(mask)
        rows, count = ops.shape(begins)[0], ops.shape(begins)[1]
        # From which of its tokens on a row is answered by the next window.
        now, then = begins[:, :-1], begins[:, 1:]
        from_here = now + self.room if self.causal else (now + then + self.room) // 2
        needed = then > now
        places = ops.arange(ops.shape(mask)[1], dtype="int32")
        tokens = ops.reshape(places - self.before, (1, -1, 1))
        passed = ops.logical_and(
            tokens >= ops.expand_dims(from_here, 1), ops.expand_dims(needed, 1)
        )
        window = ops.sum(ops.cast(passed, "int32"), axis=2)
        within = ops.expand_dims(places, 0) - ops.take_along_axis(begins, window, axis=1)
        within = ops.clip(within, 0, wide - 1)
        first = ops.expand_dims(ops.arange(rows, dtype="int32") * count, 1)
        flat = ops.reshape(features, (-1, features.shape[-1]))
        return ops.take(flat, (first + window) * wide + within, axis=0)

    def compute_output_spec(self, features, mask):
        return keras.KerasTensor((*mask.shape, features.shape[-1]), dtype=features.dtype)

    def get_config(self):
        return {**super().get_config(), "causal": self.causal}


@keras.saving.register_keras_serializable("kerasft")
class Windowed(keras.Model):
    """A network for text that reads rows longer than it takes at once.

    What it says of each token stands in its row; what it says of a row as a whole is left out. It
    is saved as the network, and made anew.

    Args:
        network: A functional network on `token_ids` and `padding_mask`, with or without
            `segment_ids`.
        length: See `IntoWindows`, as `overlap`, `start` and `end`.
        causal: See `OutOfWindows`.

    Raises:
        Unfit: If the network does not say what it reads of each token, or takes no mask.
    """

    def __init__(self, network, length, overlap, start, end, causal=False, name=None):
        taken = network.input if isinstance(network.input, dict) else {}
        if "padding_mask" not in taken:
            raise Unfit(f"{type(network).__name__} is not told what is padding")
        inputs = {
            key: keras.Input(one.shape[1:], dtype=one.dtype, name=one.name)
            for key, one in taken.items()
        }
        how = {"length": length, "overlap": overlap, "start": start, "end": end}
        windows = IntoWindows(**how, name="into_windows")(inputs)
        values = {id(one): windows[key] for key, one in taken.items()}
        for depth in sorted(network._nodes_by_depth, reverse=True):
            for node in network._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                given, named = node.arguments.fill_in(values)
                made = keras.tree.flatten(node.operation(*given, **named))
                values |= {id(t): new for t, new in zip(node.outputs, made, strict=True)}
        single = not isinstance(network._outputs_struct, dict)
        outputs = {
            key: OutOfWindows(**how, causal=causal, name=name_of(key, "out_of_windows"))(
                values[id(one)], inputs["padding_mask"]
            )
            for key, one in ({"": network.output} if single else network._outputs_struct).items()
            if hasattr(one, "shape") and len(one.shape) == 3
        }
        if not outputs:
            raise Unfit(f"{type(network).__name__} says nothing of single tokens")
        super().__init__(
            inputs=inputs, outputs=outputs[""] if single else outputs, name=name or network.name
        )
        # Out of sight of Keras' tracking: its layers are in this graph.
        object.__setattr__(self, "within", network)
        self.how = {**how, "causal": causal}

    def get_config(self):
        made = keras.saving.serialize_keras_object(self.within)
        # KerasHub's Llama leaves this out of its config and would not come back without it.
        if getattr(self.within, "tie_word_embeddings", False):
            made["config"].setdefault("tie_word_embeddings", True)
        return {"name": self.name, "network": made, **self.how}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects)
        return cls(network, **config)


def name_of(key, name):
    """Return the name of a layer that is there for one of several outputs."""
    return f"{key}_{name}" if key else name
