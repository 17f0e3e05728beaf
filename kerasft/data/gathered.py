"""What a source reads example by example: texts go to files as they come, where a run has some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kerasft.data import spool
from kerasft.data.collection import Collection
from kerasft.data.late_columns import Coded
from kerasft.data.spool import Spool
from kerasft.spec import Modality

# Examples that are held at once, and characters of their texts.
AT_ONCE, MOST = 1 << 12, 1 << 22


class Gathered:
    """Takes examples one by one; its files are closed at the end of a `with` block.

    Args:
        modality: `"text"`; or `"images"`, of which inputs are held as they are given.
        kind: What the labels are to a task.
        pair: Whether an example is a pair of texts.
        grouped: Whether examples have groups.

    Example:
        >>> with Gathered("text", kind="single") as gathered:
        ...     gathered.add("train", "a.tfrecord", 0, "a fine film", 1)
        >>> found = gathered.made()
        >>> found.inputs, found.ids, found.values
        (['a fine film'], ['a.tfrecord:0'], [1])
    """

    def __init__(
        self, modality: Modality, *, kind: str, pair: bool = False, grouped: bool = False
    ) -> None:
        place = spool.folder() if modality == "text" else None
        self._into = None if place is None else Spool(place, pair=pair)
        column: Callable[[], Any] = list if self._into is None else Coded
        self._found = Collection(modality, [], [], [], column(), notices=[])
        if self._into is not None:
            self._found.values = self._into.column("labels", kind)
        if grouped:
            self._found.groups = column()
        self._piece: list[tuple[int, Any, Any, Any]] = []
        self._of, self._size = ("", ""), 0

    def __enter__(self) -> Gathered:
        if self._into is not None:
            self._into.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            if raised[0] is None:
                self._settle()
                if self._into is not None:
                    self._found = replace(self._found, **self._into.columns())
        finally:
            if self._into is not None:
                self._into.__exit__(*raised)

    def add(
        self, split: str, file: str, place: int, content: Any, value: Any,
        group: str | None = None,
    ) -> None:
        """Add an example.

        Args:
            split: The split that it comes in.
            file: What its name begins with.
            place: Where it stands there.
            content: A text, or a pair of texts; of images what becomes the input.
            value: Its raw label.
            group: The name of its group.
        """
        if self._of != (split, file):
            self._settle()
            self._of = split, file
        self._piece.append((place, content, value, group))
        if self._into is not None:
            self._size += len(content if isinstance(content, str) else "".join(content))
        if len(self._piece) >= AT_ONCE or self._size >= MOST:
            self._settle()

    def made(self) -> Collection:
        """Return all, after the block."""
        return self._found

    def _settle(self) -> None:
        """Put what is held where it belongs."""
        (split, file), found = self._of, self._found
        if not self._piece:
            return
        places, contents, values, groups = map(list, zip(*self._piece, strict=True))
        if self._into is not None:
            self._into.add(file, places, contents)
        else:
            inputs: Any = found.inputs
            inputs.extend(contents)
            found.ids.extend(f"{file}:{place}" for place in places)
        found.values.extend(values)
        found.brought.extend([split] * len(values))
        if found.groups is not None:
            found.groups.extend(groups)
        self._piece, self._size = [], 0
