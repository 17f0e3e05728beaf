"""The averages of weights that a config wants, and the soup of a run's best epochs."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from kerasft.config.composition import build_named
from kerasft.errors import UserError


def build_averages(cfg: DictConfig) -> Any:
    """Build what averages weights.

    Raises:
        UserError: If a node refuses its values, or two of them exclude one another; the message
            has the node's key.
    """
    from kerasft.training.averages import sort_out

    made: dict[str, Any] = {}
    for name, node in (cfg.get("average") or {}).items():
        try:
            made |= build_named({name: node})
        except UserError as error:
            kind = str(node.get("_target_")).rpartition(".")[2].lower()
            raise UserError(
                problems=[one.replace(f"average.{kind}.", f"average.{name}.")
                          for one in error.problems]
            ) from error
    return sort_out(made)
