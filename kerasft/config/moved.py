"""Parts that have moved: configs that name them by their former paths are still read."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, ListConfig

# Former module -> the module of today.
MOVED = {
    "kerasft.cache": "kerasft.system.cache",
    "kerasft.data.digits": "kerasft.data.sources.digits",
    "kerasft.data.image_folder": "kerasft.data.sources.image_folder",
    "kerasft.data.table": "kerasft.data.sources.table",
    "kerasft.data.tfds": "kerasft.data.sources.tfds",
    "kerasft.data.tfrecord": "kerasft.data.sources.tfrecord",
    "kerasft.model.heads": "kerasft.model.heads.pooled",
}


def renew(cfg: DictConfig) -> None:
    """Write the paths of today into a config, wherever a node calls a part by its former one.

    Args:
        cfg: A config, changed in place.

    Example:
        >>> from omegaconf import OmegaConf
        >>> cfg = OmegaConf.create({"head": {"_target_": "kerasft.model.heads.mlp"}})
        >>> renew(cfg)
        >>> cfg.head._target_
        'kerasft.model.heads.pooled.mlp'
    """
    for node in _mappings(cfg):
        target = node._get_node("_target_", validate_access=False)
        if target is None or not isinstance(value := target._value(), str):
            continue
        module, _, name = value.rpartition(".")
        if module in MOVED:
            node["_target_"] = f"{MOVED[module]}.{name}"


def _mappings(node: DictConfig) -> Iterator[DictConfig]:
    """Yield each mapping of a config; interpolations are not followed."""
    if not isinstance(node, DictConfig | ListConfig) or node._is_none() or node._is_missing() \
            or node._is_interpolation():
        return
    if isinstance(node, DictConfig):
        yield node
    keys = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        yield from _mappings(node._get_node(key))
