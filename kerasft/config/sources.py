"""Where Hydra may read configs: files, and what is installed for Hydra."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.core_plugins import structured_config_source
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource,
)
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from kerasft.config.yaml_limits import require_small
from kerasft.errors import UserError, shown

# The copy of the shipped configs that a sweep goes by, while it does.
COPY: ContextVar[Path | None] = ContextVar("copy", default=None)

# How many files are remembered; those that we and Hydra ship are some 150.
_MOST_READ = 1000
_read: dict[tuple[Any, ...], ConfigResult] = {}


@contextmanager
def safe_sources() -> Iterator[None]:
    """Let Hydra find configs only where reading them runs nothing, while the block runs."""
    Plugins.instance()  # registers Hydra's own, once
    registry = SourcesRegistry.instance()
    usual = registry.types
    # What a plugin may have brought beside these, no config can name.
    safe = (_Files, _Packages, StructuredConfigSource)
    registry.types = {source.scheme(): source for source in safe}
    try:
        yield
    finally:
        # A launcher hands what is registered to its processes, where it must be Hydra's own.
        registry.types = usual


@contextmanager
def quick_lists() -> Iterator[None]:
    """Let Hydra list the choices so far only where a defaults list names one of them (`${...}`).

    It makes that list, a config of its own, for each file that it reads, which takes a third of
    the time of a composition.
    """
    usual = defaults_list._create_interpolation_map

    def where_asked(overrides: Any, listed: Sequence[Any], self_added: bool) -> Any:
        asked = any(not one.is_self() and one.is_interpolation() for one in listed)
        return usual(overrides, listed, self_added) if asked else None

    defaults_list._create_interpolation_map = where_asked
    try:
        yield
    finally:
        defaults_list._create_interpolation_map = usual


def find_here() -> None:
    """Let modules of the current folder be found, behind all that is installed."""
    Plugins.instance()  # before: it imports all plugins of Hydra that it finds
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)


class _Files(FileConfigSource):
    """Hydra's files, wherever a defaults list finds them; their aliases are counted first."""

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path) / self._normalize_file_name(config_path)
        require_small(file)
        read = partial(super().load_config, config_path)
        found = _read_once((self.provider, self.path, config_path, *stamp(file)), read) \
            if file.is_file() else read()
        place = COPY.get()
        if place is not None and place in file.resolve().parents:
            _require_none_of_hydra(found, file)
        return found


class _Packages(ImportlibResourcesConfigSource):
    """Hydra's own configs and those of its plugins: looking for others imports a package."""

    def __init__(self, provider: str, path: str) -> None:
        _require_installed(provider, path)
        super().__init__(provider, path)

    def load_config(self, config_path: str) -> ConfigResult:
        read = partial(super().load_config, config_path)
        return _read_once((self.provider, self.path, config_path), read)


class StructuredConfigSource(structured_config_source.StructuredConfigSource):
    """What is registered: a path would be a module, which is imported. Hydra goes by its name."""

    def __init__(self, provider: str, path: str) -> None:
        _require_installed(provider, path)
        super().__init__(provider, path)

    def __deepcopy__(self, memo: dict[int, Any]) -> StructuredConfigSource:
        return self  # Hydra copies its sources for each composition: this one with all registered


def stamp(file: Path | os.DirEntry[str]) -> tuple[Any, ...]:
    """Return what changes when a file does."""
    status = file.stat()
    return os.fspath(file), status.st_mtime_ns, status.st_size, status.st_ino


def _read_once(key: tuple[Any, ...], read: Callable[[], ConfigResult]) -> ConfigResult:
    """Read a file once: a command composes several times, of mostly the same files."""
    if key not in _read:
        if len(_read) >= _MOST_READ:
            _read.clear()
        _read[key] = read()
    return copy.deepcopy(_read[key])  # Hydra takes out what it has understood


def _require_installed(provider: str, path: str) -> None:
    """See that a place is Hydra's own or an installed plugin's."""
    if path not in {entry.path for entry in create_config_search_path(None).get_path()}:
        raise UserError(
            "Configs are not read from Python packages and modules: that would import them. "
            f"Received: {shown(path)} ({provider}). Name their folder with --config-dir."
        )


def _require_none_of_hydra(found: ConfigResult, file: Path) -> None:
    """See that a copy of our configs, which may be anybody's, says nothing to Hydra itself."""
    package = str(found.header.get("package") or "")
    if package.partition(".")[0] == "hydra" or (
        isinstance(found.config, DictConfig) and "hydra" in found.config
    ):
        raise UserError(
            f"{str(file)!r} holds settings of Hydra itself, which may lead to configs elsewhere. "
            "The copy of the configs in a sweep's folder may hold none: take out `hydra`."
        )
