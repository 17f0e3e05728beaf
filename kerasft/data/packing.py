"""Packing: short documents put into blocks of one length, so that no step computes padding.

What stands in which block is a pure function of the documents, the length of a block and the seed.
A block is an example like any other: order, store and resume know nothing of what it holds.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

WAYS = ("isolated", "joined", "none")


def fitted(lengths: np.ndarray, block: int, seed: int) -> list[np.ndarray]:
    """Put whole documents into as few blocks as can be found quickly, none of them cut.

    Each, the longest first, goes where it leaves the least room (best fit decreasing; for language
    models: Ding et al., "Fewer Truncations Improve Language Modeling", 2024,
    https://arxiv.org/abs/2404.10830).

    Args:
        lengths: `int64[N]`, the tokens of each document, from 1 to `block`.
        block: The tokens of a block.
        seed: Decides which of the documents of one length come first.

    Returns:
        The documents of each block.

    Example:
        >>> [one.tolist() for one in fitted(np.array([5, 2, 3, 4]), block=7, seed=0)]
        [[0, 1], [3, 2]]
    """
    draw = np.random.default_rng([0x9ACC, seed]).permutation(len(lengths))
    order = draw[np.argsort(-lengths[draw], kind="stable")]
    blocks: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # blocks by how many tokens they have room for
    rooms: list[int] = []
    for one in order.tolist():
        length = int(lengths[one])
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms[place]
            block_of = with_room[room].pop()
            if not with_room[room]:
                del with_room[room]
                rooms.pop(place)
        else:
            room, block_of = block, len(blocks)
            blocks.append([])
        blocks[block_of].append(one)
        left = room - length
        if left:
            if left not in with_room:
                with_room[left] = []
                insort(rooms, left)
            with_room[left].append(block_of)
    return [np.array(one) for one in blocks]


def cut(count: int, block: int) -> list[tuple[int, int]]:
    """Cut a stream of tokens into blocks.

    Each block but the first begins with the last token of the one before, which it learns nothing
    of: so every token is learned once, after all that stands before it in its block.

    Args:
        count: How many tokens there are.
        block: The tokens of a block.

    Returns:
        Where each block begins, and where it ends.

    Example:
        >>> cut(10, 4)
        [(0, 4), (3, 7), (6, 10)]
    """
    starts = range(0, max(count - 1, 1), block - 1)
    return [(start, min(start + block, count)) for start in starts]
