"""Imports point down only, light modules stay light, and the public names are these."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import kerasft

PACKAGE = Path(kerasft.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each part of the package may import parts of a lower rank, and itself.
RANK = {
    "errors": 0, "rows": 0,
    "spec": 1, "raw_input": 1,
    "system": 2,
    "catalogue": 3, "artifact": 3, "distributed": 3,
    "config": 4, "contracts": 4, "abilities": 4,
    "data": 5, "model": 5, "training": 5, "evaluation": 5, "exporters": 5, "serving": 5,
    "tasks": 6,
    "runs": 7,
    "steps": 8,
    "run": 9,
    "sweeps": 10, "testing": 10, "commands": 10,
    "cli": 11,
    "__main__": 12,
}  # fmt: skip
# Of the steps, each room may import those before it; the last two are siblings.
STEPS = {
    "preparing": 0, "measuring": 1, "fitting": 2, "costs": 3, "advice": 4, "answers": 5, "looks": 5,
}  # fmt: skip
ROOMS = ("data", "model", "training", "evaluation", "exporters", "serving")
# The rooms take plain values: they know nothing of configs and run folders.
BELOW_ROOMS = (
    "errors", "rows", "spec", "raw_input", "contracts", "abilities", "system", "catalogue",
    "artifact", "distributed",
)

LIGHT = (
    "__init__", "__main__", "cli", "commands", "config/", "errors", "spec", "rows", "raw_input",
    "contracts", "abilities", "system/", "runs/", "run", "steps", "catalogue/", "sweeps/",
    "model/hub", "distributed/",
)
HEAVY = ("tensorflow", "keras", "keras_hub", "tensorflow_text", "tensorflow_datasets", "sklearn",
         "pandas", "matplotlib")  # fmt: skip

PUBLIC = [
    "UserError", "check", "compose", "diagnose", "evaluate", "explain", "export", "grid",
    "leaderboard", "lr_find", "models", "plan", "predict", "predict_data", "probe", "resume",
    "show", "sweep", "train", "__version__",
]  # fmt: skip


@cache
def parsed(file: Path) -> tuple[list[ast.stmt], list[ast.AST]]:
    """Return the imports at the top of a file, and all of its imports and `.kind`."""
    tree = ast.parse(file.read_text("utf-8"))
    every = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Attribute) and node.attr == "kind")
    ]
    return [node for node in tree.body if node in every], every


def imports(file: Path, *, top_level: bool = False) -> list[tuple[str, int]]:
    """Return the modules that a file imports, with the lines."""
    top, every = parsed(file)
    found = []
    for node in top if top_level else every:
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports relatively"
            if node.module == "kerasft":
                found += [(f"kerasft.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module or "", node.lineno))
    return found


def imported_names(file: Path) -> list[tuple[str, str]]:
    """Return what a file imports by name, with the modules that it is from."""
    return [
        (node.module or "", alias.name) for node in parsed(file)[1]
        if isinstance(node, ast.ImportFrom) for alias in node.names
    ]  # fmt: skip


def part_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def ours(file: Path) -> list[tuple[str, int]]:
    """Return the parts of kerasft that a file imports."""
    found = []
    for module, line in imports(file):
        names = module.split(".")
        if names[0] == "kerasft" and len(names) > 1 and not names[1].startswith("__version"):
            found.append((names[1], line))
    return found


def test_every_part_has_its_rank():
    parts = {part_of(file) for file in FILES} - {"__init__"}
    assert len(parts) > 10
    assert parts <= set(RANK), "give the new part its place in RANK"


def test_imports_point_down():
    seen = 0
    for file in FILES:
        here = part_of(file)
        for part, line in ours(file):
            seen += 1
            assert part == here or RANK[part] < RANK.get(here, 13), (
                f"{file.relative_to(PACKAGE)}:{line} imports kerasft.{part}, which is not below it"
            )
    assert seen > 50


def test_rooms_of_the_steps_import_those_before_them():
    seen = 0
    for file in sorted((PACKAGE / "steps").rglob("*.py")):
        here = file.parent.name
        if here == "steps":
            assert file.name == "__init__.py", f"{file.name} belongs in a room"
            continue
        for module, line in imports(file):
            room = module.removeprefix("kerasft.steps.").partition(".")[0]
            if module.startswith("kerasft.steps.") and room != here:
                seen += 1
                assert STEPS[room] < STEPS[here], f"{here}/{file.name}:{line} imports {module}"
    assert seen > 20


def test_no_modules_import_each_other_in_a_circle():
    modules = {
        ".".join(("kerasft", *file.relative_to(PACKAGE).with_suffix("").parts)): file
        for file in FILES
    }
    below: dict[str, set[str]] = {}
    for name, file in modules.items():
        found = {module for module, _ in imports(file)}
        found |= {f"{module}.{one}" for module, one in imported_names(file)}
        below[name] = (found & set(modules)) - {name}
    while free := [name for name, others in below.items() if not others]:
        for name in free:
            del below[name]
        for others in below.values():
            others.difference_update(free)
    assert not below, f"these import each other: {sorted(below)}"


def test_rooms_know_neither_each_other_nor_the_config():
    seen = 0
    for file in FILES:
        here = part_of(file)
        if here not in ROOMS:
            continue
        for part, line in ours(file):
            seen += 1
            assert part == here or part in BELOW_ROOMS, (
                f"{file.relative_to(PACKAGE)}:{line} imports kerasft.{part}"
            )
    assert seen > 20


def test_the_package_itself_imports_nothing_of_its_own():
    assert [m for m, _ in imports(PACKAGE / "__init__.py", top_level=True)] == [
        "__future__", "os", "typing",
    ]  # fmt: skip
    empty = [file for file in FILES if file.name == "__init__.py" and file.parent != PACKAGE]
    assert len(empty) >= 7
    for file in empty:
        body = ast.parse(file.read_text("utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), f"{file}: a docstring is enough"


def test_light_modules_import_nothing_heavy():
    files = [
        file for file in FILES
        if str(file.relative_to(PACKAGE).with_suffix("")).startswith(LIGHT)
    ]  # fmt: skip
    assert len(files) >= len(LIGHT)
    for file in files:
        for module, line in imports(file, top_level=True):
            assert module.split(".")[0] not in HEAVY, (
                f"{file.relative_to(PACKAGE)}:{line} imports {module} when it is imported"
            )


def test_hydra_is_known_in_few_places():
    found = {
        str(file.relative_to(PACKAGE)) for file in FILES
        for module, _ in imports(file) if module.split(".")[0] == "hydra"
    }  # fmt: skip
    # Its launchers, what they call, and its plug-in.
    assert found == {
        "config/building.py", "config/composition.py", "config/kept.py", "config/sources.py",
        "sweeps/batches.py", "sweeps/jobs.py", "sweeps/plugin.py",
    }


def test_what_kind_labels_are_is_the_matter_of_tasks_and_annotations():
    seen = 0
    for file in FILES:
        place = file.relative_to(PACKAGE).parts
        for node in parsed(file)[1]:
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(
                node.value, "id", "")  # fmt: skip
            if owner.endswith("labels"):
                seen += 1
                assert place[0] == "tasks" or place[:2] == ("data", "annotations"), (
                    f"{'/'.join(place)}:{node.lineno} asks what kind labels are"
                )
    assert seen > 5


# The kinds of labels that kerasft has, as they are written in its code.
LABEL_KINDS = {"single", "multi", "number", "numbers", "boxes", "masks", "spans", "language"}
# Who may compare a kind with one of these beside tasks and annotations, and why.
COMPARING = {
    "testing.py": "it makes up labels of the kind that it is asked for",
}


def compared_kinds(tree):
    """Yield the lines on which a name or attribute `kind` is compared with a kind of labels."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            subjects, values = [node.left, *node.comparators], [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            subjects, values = [node.subject], [case.pattern for case in node.cases]
        else:
            continue
        names = (getattr(one, "attr", getattr(one, "id", "")) for one in subjects)
        words = {one.value for value in values for one in ast.walk(value)
                 if isinstance(one, ast.Constant) and isinstance(one.value, str)}  # fmt: skip
        if words & LABEL_KINDS and any(name.endswith("kind") for name in names):
            yield node.lineno


def test_kinds_of_labels_are_compared_in_tasks_and_annotations():
    found = {}
    for file in FILES:
        if lines := list(compared_kinds(ast.parse(file.read_text("utf-8")))):
            found["/".join(file.relative_to(PACKAGE).parts)] = lines
    outside = {
        place: lines for place, lines in found.items()
        if not place.startswith(("tasks/", "data/annotations/"))
    }  # fmt: skip
    assert outside.keys() <= COMPARING.keys(), (
        f"{outside}: ask `data/annotations/kinds.py` or the task, as the others do"
    )
    assert outside.keys() >= COMPARING.keys(), "an exception that is none any more"
    assert sum(map(len, found.values())) > 30


def test_a_comparison_of_kinds_is_seen():
    text = """
if task.kind == "boxes": pass
if "multi" != labels.kind: pass
if label_kind in ("number", "numbers"): pass
match kind:
    case "masks" | "spans": pass
if kind == "gpu" or name == "boxes": pass
"""
    assert sorted(compared_kinds(ast.parse(text))) == [2, 3, 4, 5]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve(name):
    assert getattr(kerasft, name) is not None


def test_public_names_are_these():
    assert sorted(kerasft.__all__) == sorted(PUBLIC)
    assert sorted(dir(kerasft)) == sorted(PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        kerasft.trian  # noqa: B018


def test_public_functions_are_documented():
    functions = [getattr(kerasft, name) for name in PUBLIC if name != "__version__"]
    assert len(functions) > 10
    for function in functions:
        assert function.__doc__, function
        if function is not kerasft.UserError:
            assert "Args:" in function.__doc__
            assert "Returns:" in function.__doc__ or "Raises:" in function.__doc__


def test_no_file_is_long():
    assert len(FILES) > 40
    lengths = {file: len(file.read_text("utf-8").splitlines()) for file in FILES}
    assert {str(f.relative_to(PACKAGE)): n for f, n in lengths.items() if n > 400} == {}


def test_no_module_is_a_bag():
    names = {re.sub(r"s$", "", file.stem) for file in FILES}
    assert not names & {"util", "helper", "manager", "common", "misc"}
