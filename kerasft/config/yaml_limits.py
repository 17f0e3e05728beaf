"""Refuses YAML whose aliases expand beyond what a machine can hold."""

from __future__ import annotations

from pathlib import Path

from kerasft.errors import UserError
from kerasft.system.enclosure import require_size

# The largest config that we ship has some two hundred nodes.
MOST_NODES = 100_000
MOST_BYTES = 10_000_000


def require_small(path: str | Path) -> None:
    """Refuse a YAML file that is too large, or whose aliases stand for too many nodes.

    A file of a few lines can name a list of lists of lists, each ten times: the reader makes a
    copy of each. What is no YAML, or cannot be read, is left to the reader, who says so.

    Args:
        path: The file.

    Raises:
        UserError: If it has more than `MOST_BYTES`, unfolds to more than `MOST_NODES`, or is a
            pipe or a device.

    Example:
        >>> require_small("config.yaml")  # doctest: +SKIP
    """
    import yaml

    require_size(path, MOST_BYTES)
    try:
        content = Path(path).read_bytes()
        if b"&" not in content or b"*" not in content:
            return
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        size = _unfolded(root, {}, set())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return
    if size > MOST_NODES:
        raise UserError(
            f"The YAML of {path} unfolds to {size:,} values by its aliases (&name, *name), and at "
            f"most {MOST_NODES:,} are read. Write out what is meant."
        )


def _unfolded(node, known: dict[int, int], above: set[int]) -> int:
    """Count the nodes that a node stands for, each alias with all that it names."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:  # it holds itself
        return MOST_NODES + 1
    inner = node.value if isinstance(getattr(node, "value", None), list) else []
    children = [child for one in inner for child in (one if isinstance(one, tuple) else (one,))]
    above.add(id(node))
    size = 1 + sum(_unfolded(child, known, above) for child in children)
    above.discard(id(node))
    known[id(node)] = size
    return size
