"""Builds objects from config nodes: the one place that calls what they name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from kerasft.config.frames import innermost, is_ours
from kerasft.config.write_paths import placed
from kerasft.errors import UserError


def as_config(values: object) -> Any:
    """Return plain values as a config node."""
    return OmegaConf.create(values)


def plain(node: DictConfig) -> Any:
    """Return a config node as plain Python values."""
    if isinstance(node, DictConfig | ListConfig):
        return OmegaConf.to_container(node, resolve=True)
    return node


def build(node: DictConfig, **runtime: Any) -> Any:
    """Call what a config node names.

    Args:
        node: A node with a `_target_`.
        **runtime: Values that only the run knows. Each goes in where the signature has its name
            and the config does not set it.

    Returns:
        What the call returns.

    Raises:
        UserError: If the call refuses its values.
    """
    return _called(node, runtime, call=True)


def build_function(node: DictConfig, **runtime: Any) -> Any:
    """Return the function of labels and predictions that a config node names, with its settings.

    Args:
        node: A node with a `_target_`.
        **runtime: See `build`.

    Returns:
        A function that waits for its first two arguments; `None` where the node names a class, or
        a function that needs no two arguments of the run's, and so makes what is wanted.
    """
    target = target_of(node)
    if inspect.isclass(target):
        return None
    first = list(inspect.signature(target).parameters.values())[:2]
    if len(first) < 2 or any(one.default is not one.empty or one.name in node for one in first):
        return None
    return _called(node, runtime, call=False)


def target_of(node: DictConfig) -> Any:
    """Return the class or function that a config node names."""
    from hydra.utils import get_object

    return get_object(node["_target_"])


def beside(node: Mapping[str, Any], name: str) -> Any:
    """Return what the module of the part that a node calls has by a name, `None` where nothing.

    Args:
        node: A node with a `_target_` that may be imported.
        name: Such as `look`, which tells of data before it is read.

    Example:
        >>> beside({"_target_": "kerasft.data.sources.digits.digits"}, "no_such_function")
    """
    home, _, _ = str(node["_target_"]).rpartition(".")
    with suppress(ModuleNotFoundError):  # what is built need not stand in a module directly
        return getattr(importlib.import_module(home), name, None)
    return None


def _called(node: DictConfig, runtime: Mapping[str, Any], *, call: bool) -> Any:
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    takes = inspect.signature(target_of(node)).parameters
    given = {k: v for k, v in runtime.items() if k in takes and node.get(k) is None}
    settings = placed(plain(node), runtime.get("output_dir"))
    # Partial first: Hydra would turn dataclasses among the runtime values into configs. How to
    # build stands among the values, since of keywords it makes a config that it merges with them.
    how = {"_convert_": "all", "_partial_": True}
    values = OmegaConf.create(
        {k: v for k, v in settings.items() if k not in given} | how, flags={"allow_objects": True}
    )
    where = node._get_full_key(None) if isinstance(node, DictConfig) else node["_target_"]
    try:
        made = instantiate(values)
        return made(**given) if call else partial(made, **given)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(f"{where}: {cause}") from error
    except (TypeError, ValueError) as error:
        if _raised_by_call(error):
            raise UserError(f"{where}: {error} ({node['_target_']})") from error
        raise
    except (OSError, MemoryError):  # of the machine, not of the values
        raise
    except Exception as error:
        # Keras refuses values by whatever comes: NotImplementedError, AttributeError, KeyError.
        if node["_target_"].partition(".")[0] in _KERAS and _raised_by_call(error):
            raise UserError(
                f"{where}: {node['_target_']} cannot be made of these values "
                f"({type(error).__name__}: {error})."
            ) from error
        raise


_KERAS = ("keras", "keras_hub")


def _raised_by_call(error: Exception) -> bool:
    """Whether a constructor of Keras refused its values, rather than code of ours failing."""
    file = innermost(error.__traceback__)
    # This module makes the call: a keyword that is missing is raised here.
    return not is_ours(file) or Path(file).resolve() == Path(__file__).resolve()


def build_named(group: Mapping[str, Any] | None, **runtime: Any) -> dict[str, Any]:
    """Build every named node of a group, in order."""
    return {name: build(node, **runtime) for name, node in (group or {}).items() if node}
