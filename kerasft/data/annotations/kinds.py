"""What is asked of a kind of labels where examples are read for it."""

from __future__ import annotations

# What one cell of a table, or the name of a folder, can say: see `classes.encode`.
PLAIN = ("single", "multi", "number", "numbers")


def are_numbers(kind: str) -> bool:
    """Whether a number, or several, is learned of each example.

    Example:
        >>> are_numbers("numbers"), are_numbers("multi")
        (True, False)
    """
    return kind in ("number", "numbers")


def are_several_numbers(kind: str) -> bool:
    """Whether several numbers are learned of each example."""
    return kind == "numbers"


def are_several_classes(kind: str) -> bool:
    """Whether an example may have any number of classes, and so none as well."""
    return kind == "multi"


def are_drawn(kind: str) -> bool:
    """Whether it is something that is drawn on images."""
    return kind in ("boxes", "masks")


def are_boxes(kind: str) -> bool:
    """Whether it is boxes around objects."""
    return kind == "boxes"


def are_masks(kind: str) -> bool:
    """Whether it is a class for each pixel."""
    return kind == "masks"


def have_named_classes(kind: str) -> bool:
    """Whether each label is one of classes, by name or by number, that a cell or a box has."""
    return kind in ("single", "multi", "boxes")
