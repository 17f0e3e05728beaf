"""Reads the parameters of a dotted path from its source, without importing it.

Importing TensorFlow takes seconds; checking a config must not. So names are followed through
`from x import y` statements down to the class or function that they stand for, and its signature
and docstring are read from the syntax tree.
"""

from __future__ import annotations

import ast
import importlib.util
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One parameter: its annotation and default as written, `None` where there is none."""

    annotation: str | None
    default: str | None
    keyword: bool = True

    @property
    def required(self) -> bool:
        return self.default is None


@dataclass(frozen=True)
class Definition:
    """Where a dotted path leads.

    Args:
        path: The path asked for.
        module: The module that holds the class or function.
        file: Its source file.
        line: Its first line.
        parameters: What it takes, in order, without `self`.
        open: Whether it takes further keywords that cannot be read off.
        docstring: Its docstring, for a class with that of `__init__` when it has no own.
        direct: Whether the path is a module and a name in it, not a way through other names.
        is_class: Whether it is a class, and no function.
    """

    path: str
    module: str
    file: Path
    line: int
    parameters: dict[str, Parameter] = field(default_factory=dict)
    open: bool = False
    docstring: str = ""
    direct: bool = True
    is_class: bool = False


class NotFound(LookupError):
    """The path leads nowhere; `allowed` holds the names at the place where it broke off."""

    def __init__(self, path: str, part: str, allowed: tuple[str, ...]):
        super().__init__(path)
        self.part, self.allowed = part, allowed


@dataclass(frozen=True)
class _Module:
    name: str
    file: Path
    names: dict[str, ast.AST | str]

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"


# Where packages lie that do not change while a process runs, as a user's own in a notebook do.
_installed: dict[str, Path] = {}


def _package_root(name: str) -> Path | None:
    if name in _installed:
        return _installed[name]
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        return None
    origin = Path(spec.origin)
    place = origin.parent if origin.name == "__init__.py" else origin
    if name == "kerasft" or not {"site-packages", "dist-packages"}.isdisjoint(place.parts):
        _installed[name] = place
    return place


def _module(name: str) -> _Module | None:
    """Return the module `name` with what its top level defines, or `None` if there is none."""
    first, *rest = name.split(".")
    place = _package_root(first)
    if place is None:
        return None
    if rest:
        place = place.joinpath(*rest)
    if place.suffix != ".py":
        place = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    try:
        facts = place.stat()
    except OSError:
        return None
    return _parsed(name, place, (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=1024)
def _parsed(name: str, place: Path, stamp: tuple[int, int]) -> _Module:
    """Return what a file defines; a file that has changed has another stamp."""
    names: dict[str, ast.AST | str] = {}
    _collect(ast.parse(place.read_text(encoding="utf-8")).body, name, place, names)
    return _Module(name, place, names)


def _collect(body: list[ast.stmt], module: str, file: Path, names: dict[str, ast.AST | str]):
    """Fill `names` with definitions (as nodes) and imported or aliased names (as paths)."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                keep = len(parents) - node.level + (file.name == "__init__.py")
                base = ".".join([*parents[:keep], *([base] if base else [])])
            for alias in node.names:
                names.setdefault(alias.asname or alias.name, f"{base}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                names.setdefault(alias.asname or alias.name.split(".")[0],
                                 alias.name if alias.asname else alias.name.split(".")[0])
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    names.setdefault(target.id, f"{module}.{ast.unparse(node.value)}")
        elif isinstance(node, ast.If | ast.Try):
            # Only definitions that can be reached in some way matter, not which branch runs.
            _collect(node.body, module, file, names)
            _collect(node.orelse, module, file, names)


def _find(path: str, seen: frozenset[str] = frozenset()) -> tuple[_Module, ast.AST]:
    """Return the module and the syntax node that `path` stands for."""
    if path in seen:
        raise NotFound(path, path, ())
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:cut]))
        if module is None:
            continue
        name, *rest = parts[cut:]
        found = module.names.get(name)
        if found is None:
            raise NotFound(path, name, tuple(n for n in module.names if not n.startswith("_")))
        if isinstance(found, str):
            return _find(".".join([found, *rest]), seen | {path})
        for part in rest:  # an attribute of a class: a nested class or a classmethod
            inner = {n.name: n for n in getattr(found, "body", ())
                     if isinstance(n, ast.ClassDef | ast.FunctionDef)}
            if part not in inner:
                raise NotFound(path, part, tuple(inner))
            found = inner[part]
        return module, found
    raise NotFound(path, parts[0], ())


def _arguments(node: ast.FunctionDef, skip_first: bool) -> tuple[dict[str, Parameter], bool]:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(positional) - len(spec.defaults)) + list(spec.defaults)
    pairs = list(zip(positional, defaults, strict=True))[1 if skip_first else 0:]
    pairs += list(zip(spec.kwonlyargs, spec.kw_defaults, strict=True))
    found = {
        arg.arg: Parameter(
            ast.unparse(arg.annotation) if arg.annotation else None,
            ast.unparse(default) if default is not None else None,
            keyword=arg not in spec.posonlyargs,
        )
        for arg, default in pairs
    }
    return found, spec.kwarg is not None


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def _class_parameters(module: _Module, node: ast.ClassDef) -> tuple[dict[str, Parameter], bool]:
    """Return the keywords that a class takes, those that `**kwargs` hands to its bases too."""
    found: dict[str, Parameter] = {}
    takes_more = True
    if _is_dataclass(node):
        takes_more = False
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                annotation = ast.unparse(item.annotation)
                if not annotation.startswith("ClassVar"):
                    default = ast.unparse(item.value) if item.value is not None else None
                    found[item.target.id] = Parameter(annotation, default)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            found, takes_more = _arguments(item, skip_first=True)
    if not takes_more:
        return found, False
    if not node.bases:
        # A root class whose `__init__` ends in **kwargs keeps it for messages about wrong keywords.
        return found, False
    still_open = False
    for base in node.bases:
        try:
            where, what = _find(f"{module.name}.{ast.unparse(base)}")
        except NotFound:
            continue
        if isinstance(what, ast.ClassDef):
            more, more_open = _class_parameters(where, what)
            found = found | {k: v for k, v in more.items() if k not in found}
            still_open |= more_open
    return found, still_open


def define(path: str) -> Definition:
    """Return what the dotted `path` stands for.

    Args:
        path: An import path such as `"keras.optimizers.AdamW"`.

    Returns:
        A `Definition`.

    Raises:
        NotFound: If the path leads to no class or function.

    Example:
        >>> list(define("kerasft.errors.nearest").parameters)
        ['word', 'allowed']
    """
    package = path.partition(".")[0]
    return _kept(path) if _package_root(package) and package in _installed else _define(path)


@cache
def _kept(path: str) -> Definition:
    return _define(path)


def _define(path: str) -> Definition:
    module, node = _find(path)
    if isinstance(node, ast.ClassDef):
        parameters, takes_more = _class_parameters(module, node)
        inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        text = ast.get_docstring(node) or (ast.get_docstring(inits[0]) if inits else None)
    elif isinstance(node, ast.FunctionDef):
        is_method = any("classmethod" in ast.unparse(d) for d in node.decorator_list)
        parameters, takes_more = _arguments(node, skip_first=is_method)
        text = ast.get_docstring(node)
    else:
        raise NotFound(path, path.rsplit(".", 1)[-1], ())
    return Definition(path, module.name, module.file, node.lineno, parameters, takes_more,
                      text or "", _module(path.rpartition(".")[0]) is not None,
                      isinstance(node, ast.ClassDef))


def constants(path: str) -> dict[str, Any]:
    """Return what a class, or a base of it, says of itself in plain values.

    Args:
        path: Its import path.

    Raises:
        NotFound: If the path leads to no class or function.

    Example:
        >>> constants("kerasft.tasks.tagging.Tagging")["kind"]
        'spans'
    """
    return _constants(*_find(path))


def _constants(module: _Module, node: ast.AST) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not isinstance(node, ast.ClassDef):
        return found
    for base in reversed(node.bases):
        with suppress(NotFound):
            found |= _constants(*_find(f"{module.name}.{ast.unparse(base)}"))
    for item in node.body:
        if not isinstance(item, ast.Assign | ast.AnnAssign) or item.value is None:
            continue
        for target in item.targets if isinstance(item, ast.Assign) else [item.target]:
            if isinstance(target, ast.Name):
                with suppress(ValueError):  # it is computed
                    found[target.id] = ast.literal_eval(item.value)
    return found
