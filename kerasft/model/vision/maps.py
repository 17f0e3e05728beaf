"""The feature maps of a network, from fine to coarse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kerasft.model.layers import nodes_of

if TYPE_CHECKING:
    import keras

# The coarsest maps that are looked for, as a power of two: places 128 pixels apart.
LEVELS = 7


def maps_of(network: keras.Model) -> dict[int, Any]:
    """Return the last feature map of each size, as far as a network for images has any.

    A map counts where all that comes later goes through it: a tensor inside of a block would miss
    what the block adds to it.

    Args:
        network: A functional `keras.Model`.

    Returns:
        Symbolic tensors `[batch, height, width, channels]`, by the power of two of their stride.

    Example:
        >>> network = keras.applications.MobileNet(weights=None, include_top=False,
        ...                                        input_shape=(64, 64, 3))
        >>> {level: tuple(x.shape[1:3]) for level, x in maps_of(network).items()}
        {1: (32, 32), 2: (16, 16), 3: (8, 8), 4: (4, 4), 5: (2, 2)}
    """
    size = size_of(network)
    if size is None:
        return {}
    if named := named_maps(network):
        return named
    near: dict[int, Any] = {}
    exact: dict[int, Any] = {}
    outputs = network.outputs
    # The maps that a network puts out are meant, where it has several.
    for tensor in outputs if len(outputs) > 1 else _waists(network):
        shape = tensor.shape
        if len(shape) != 4 or None in shape[1:3] or 0 in shape[1:3]:
            continue
        pairs = list(zip(size, shape[1:3], strict=True))
        # As fine as the images are the pixels themselves, if it is not what the network ends in.
        finest = 0 if any(tensor is output for output in outputs) else 1
        for level in range(finest, LEVELS + 1):
            # A padded map is a row too large, and belongs to the convolution that follows.
            if all(part in (whole // 2**level, -(-whole // 2**level)) for whole, part in pairs):
                exact[level] = tensor
            # Convolutions without padding lose rows at the edge: Inception's do.
            if all(0.75 < whole / part / 2**level < 1.4 for whole, part in pairs):
                near[level] = tensor
    return dict(sorted({**near, **exact}.items()))


def named_maps(network: keras.Model) -> dict[int, Any]:
    """Return the maps of a network that puts out nothing else and names them `P3`, `P4`, ....

    So do KerasHub's networks of detectors. Of small images the coarsest maps have one place each:
    only their names tell them apart.
    """
    size, output = size_of(network), network.output
    if size is None or not isinstance(output, dict) or not output:
        return {}
    found = {}
    for name, tensor in output.items():
        level = re.fullmatch(r"P(\d+)", str(name))
        shape = tensor.shape
        sides = level and tuple(-(-side // 2 ** int(level[1])) for side in size)
        if level is None or len(shape) != 4 or tuple(shape[1:3]) != sides:
            return {}
        found[int(level[1])] = tensor
    return dict(sorted(found.items()))


def is_pyramid(network: keras.Model) -> bool:
    """Whether a network's maps are a pyramid: what the coarse ones know is in the finer ones.

    They have one width then; maps of a network's stages grow wider.
    """
    maps = named_maps(network)
    return len(maps) > 1 and len({tensor.shape[-1] for tensor in maps.values()}) == 1


def size_of(network: keras.Model) -> tuple[int, int] | None:
    """Return the rows and columns of the images that a network takes, where it takes such."""
    inputs = network.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or None in inputs[0].shape[1:3]:
        return None
    return tuple(inputs[0].shape[1:3])


def _waists(network: keras.Model) -> list[Any]:
    """Return the tensors that all later ones are made of alone, in order."""
    nodes = nodes_of(network)
    last: dict[int, int] = {id(tensor): len(nodes) for tensor in network.outputs}
    for place, node in enumerate(nodes):
        for tensor in node.input_tensors:
            last[id(tensor)] = max(last.get(id(tensor), 0), place)
    found: list[Any] = []
    live: set[int] = set()
    for place, node in enumerate(nodes):
        live = {one for one in live if last.get(one, -1) > place}
        made = [tensor for tensor in node.outputs if last.get(id(tensor), -1) > place]
        live |= {id(tensor) for tensor in made}
        if len(made) == 1 and len(live) == 1:
            found.append(made[0])
    return found
