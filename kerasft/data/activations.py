"""What the frozen part of a network computes, kept for every example, read instead of computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasft.data import store
from kerasft.data.order import once
from kerasft.data.pipeline import in_one_pass
from kerasft.data.store import Form, Piece, Store
from kerasft.system.cache import Cache


@dataclass(frozen=True)
class Source:
    """What activations are computed from.

    Args:
        store: The preprocessed examples.
        augment: What `augmenter` returns, for texts a `TextAugmenter`, or `None`.
        views: How many augmented variants of each example are kept; view `v` is what epoch `v`
            of an uncached run would see.
    """

    store: Store
    augment: Any = None
    views: int = 1

    def seen(self, view: int) -> tuple[Store, Callable | None]:
        """Return the examples as they are in a view, and what is done with them there."""
        if hasattr(self.augment, "raw"):  # texts are changed before they are tokenized
            return self.augment.store(view), None
        return self.store, self.augment


def forms(outputs: Mapping[str, Any]) -> dict[str, Form]:
    """Return the form of each tensor that a prefix gives, as `Store` keeps it.

    Args:
        outputs: Symbolic tensors by name. One whose second side is open has a row for each
            position of a text.

    Returns:
        A `Form` by name.
    """
    return {
        name: Form(str(tensor.dtype), tuple(tensor.shape[2:]), ragged=True)
        if len(tensor.shape) > 1 and tensor.shape[1] is None
        else Form(str(tensor.dtype), tuple(tensor.shape[1:]))
        for name, tensor in outputs.items()
    }


def size_of(forms: Mapping[str, Form], source: Source) -> int:
    """Return the bytes that the activations will take."""
    lengths = source.store.lengths
    positions = 0 if lengths is None else int(lengths.sum())
    size = sum(
        int(np.prod(form.shape)) * store.np_dtype(form.dtype).itemsize
        * (positions if form.ragged else len(source.store))
        for form in forms.values()
    )
    return size * source.views


def keep(
    cache: Cache, key: Mapping[str, Any], prefix: Callable[[Any], Mapping[str, Any]],
    forms: Mapping[str, Form], source: Source, *, batch_size: int, about: str,
) -> Store:
    """Return the activations of all examples, computed where the cache does not hold them.

    Args:
        cache: Where they are kept.
        key: All that decides them, as plain values.
        prefix: The frozen part of the network, a function on a batch, best a `tf.function`.
        forms: What `forms` returns.
        source: What they are computed from.
        batch_size: Examples computed at once.
        about: What they are, in words.

    Returns:
        A `Store` with the same examples in the same order, and its views.

    Raises:
        CacheError: If they cannot be kept.
    """
    made = cache.get(
        "activations", key, about=about, read=store.read,
        write=lambda folder: store.write(
            folder, forms, _pieces(prefix, forms, source, batch_size), source.store.longest
        ),
    )
    return _in_order(made, source, batch_size)


def compute(
    prefix: Callable[[Any], Mapping[str, Any]], forms: Mapping[str, Form], source: Source,
    *, batch_size: int,
) -> Store:
    """Return the activations of all examples in memory; see `keep` for the arguments."""
    pieces = _pieces(prefix, forms, source, batch_size)
    return _in_order(store.collect(forms, pieces, source.store.longest), source, batch_size)


def _in_order(made: Store, source: Source, batch_size: int) -> Store:
    order = np.concatenate(once(len(source.store), batch_size, source.store.lengths))
    # They stand in the order in which they were computed: those of similar length together.
    index = np.empty(len(order), "int64")
    index[order] = np.arange(len(order))
    return replace(made, inputs=replace(made.inputs, index=index), views=source.views)


def _pieces(
    prefix: Callable[[Any], Mapping[str, Any]], forms: Mapping[str, Form], source: Source,
    batch_size: int,
) -> Iterator[Piece]:
    ragged = any(form.ragged for form in forms.values())
    for view in range(source.views):
        seen, augment = source.seen(view)
        lengths = seen.lengths if ragged else None
        # In one order for all views, though changed texts have other lengths.
        data, order = in_one_pass(
            seen, batch_size, augment=augment, epoch=view, lengths=source.store.lengths
        )
        if hasattr(prefix, "get_concrete_function"):
            prefix.get_concrete_function(data.element_spec)  # one trace for batches of any width
        done = 0
        for batch in data:
            values = {name: value.numpy() for name, value in prefix(batch).items()}
            count = len(next(iter(values.values())))
            here = order[done : done + count]
            done += count
            if lengths is None:
                yield values, None
                continue
            own = lengths[here]
            width = next(v.shape[1] for n, v in values.items() if forms[n].ragged)
            real = np.arange(width)[None] < own[:, None]
            yield {n: v[real] if forms[n].ragged else v for n, v in values.items()}, own
