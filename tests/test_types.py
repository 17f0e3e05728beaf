"""What is handed on has a type, and abilities of tasks are protocols that are asked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import kerasft
from kerasft.abilities import Comparing, Ordered, Shortlisting, Weighted, Windowing
from kerasft.tasks.classification import Classification
from kerasft.tasks.multi_label import MultiLabel
from kerasft.tasks.multi_regression import MultiRegression
from kerasft.tasks.regression import Regression
from kerasft.tasks.segmentation import Segmentation
from kerasft.tasks.tagging import Tagging

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


def test_tasks_have_these_abilities():
    kinds = (Classification, MultiLabel, Regression, MultiRegression, Segmentation, Tagging)
    abilities = (Comparing, Weighted, Ordered, Shortlisting, Windowing)
    found = {one: {kind for kind in kinds if isinstance(kind(), one)} for one in abilities}
    assert found == {
        Comparing: {Classification, MultiLabel, Regression, MultiRegression},
        Weighted: {Classification, MultiLabel, Tagging}, Ordered: {Classification},
        Shortlisting: {Classification}, Windowing: {Tagging},
    }


# The share of parameters that may be `Any`: it only ever falls.
CEILING = 0.049
# What goes through all rooms, and has a type of its own.
TYPED = ("task", "preprocess", "labels")


def parameters() -> Iterator[tuple[str, int, str, str]]:
    """Yield each parameter of a function, `self` and `*args` apart, and its annotation."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                if one.arg not in ("self", "cls"):
                    said = ast.unparse(one.annotation) if one.annotation else ""
                    yield file, one.lineno, one.arg, said


def test_few_parameters_are_any():
    found = list(parameters())
    loose = [(file, line, name) for file, line, name, said in found if said == "Any"]
    assert len(found) > 5000
    assert len(loose) <= CEILING * len(found), (
        f"{len(loose)} of {len(found)} parameters are Any, {len(loose) / len(found):.2%}, and "
        f"{CEILING:.1%} may be. Say what is handed in: a protocol of kerasft/contracts.py, "
        "kerasft/abilities.py or kerasft/spec.py, keras.Model, keras.Layer, tf.Tensor, Tensors, "
        "np.ndarray (imported under TYPE_CHECKING), or object for what may be anything."
    )


def test_tasks_labels_and_preprocessing_have_their_types():
    found = [one for one in parameters() if one[2] in TYPED]
    assert len(found) > 300
    loose = [f"{file}:{line} {name}" for file, line, name, said in found if said == "Any"]
    assert not loose, f"Task, Preprocess and Labels of kerasft, or a protocol: {loose}"
