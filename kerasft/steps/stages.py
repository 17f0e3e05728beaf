"""The stages of a config, by name, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerasft.config.composition import build_named
from kerasft.errors import UserError


def build_stages(group: Mapping[str, Any] | None) -> dict[str, Any]:
    """Build the stages of a config.

    Args:
        group: The named nodes. Where one makes several stages by name, they are told apart by
            `NODE/NAME`.

    Returns:
        The stages by name, in order.

    Raises:
        UserError: If a node refuses its values; the message has the node's key.
    """
    found: dict[str, Any] = {}
    for name, node in (group or {}).items():
        try:
            for made in build_named({name: node}).values():
                several = made if isinstance(made, Mapping) else None
                found |= {f"{name}/{one}": each for one, each in several.items()} if several else {
                    name: made
                }  # fmt: skip
        except UserError as error:
            raise UserError(
                problems=[one.replace("finetune.NAME.", f"finetune.{name}.")
                          for one in error.problems]
            ) from error
    return found
