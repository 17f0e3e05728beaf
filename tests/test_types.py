"""What is handed on has a type, and abilities of tasks are protocols that are asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import kerasft

PACKAGE = Path(kerasft.__file__).parent
TREES = {
    str(file.relative_to(PACKAGE)): ast.parse(file.read_text("utf-8"))
    for file in sorted(PACKAGE.rglob("*.py"))
}  # fmt: skip


def asked_of_tasks() -> Iterator[tuple[str, int]]:
    """Yield where an attribute of a task is asked for by its name."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if not named or node.func.id not in ("getattr", "hasattr"):
                continue
            owner = node.args[0]
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name == "task":
                yield file, node.lineno


def test_abilities_of_tasks_are_protocols():
    found = list(asked_of_tasks())
    # `lacking` asks for all that a task must have.
    assert [file for file, _ in found] == ["contracts.py"], (
        f"ask with isinstance for a protocol of kerasft/contracts.py or abilities.py: {found}"
    )
