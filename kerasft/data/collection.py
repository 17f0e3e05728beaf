"""What a source has found, and the one way from there to `Splits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasft.data.annotations.cover import check_cover, check_limited, limited, strata
from kerasft.data.annotations.encoding import encode
from kerasft.data.copies import find_copies
from kerasft.data.copies import notices as copies_told
from kerasft.data.fingerprint import digests_of, stamps_of
from kerasft.data.late_columns import Coded
from kerasft.data.slices import Values, cut_all
from kerasft.data.splits import check_ratios, describe_sizes, divide
from kerasft.data.spool import copied
from kerasft.errors import UserError
from kerasft.rows import Rows
from kerasft.spec import SPLIT_NAMES, Examples, Modality, Splits


@dataclass
class Collection:
    """The examples of a source, column by column, as they were found.

    Args:
        modality: `"images"` or `"text"`.
        inputs: As in `Examples`. A sequence with a method `choose(indices)` stays lazy.
        values: One raw label an example.
        ids: One unique, stable name an example.
        brought: The split each example comes in; `"train"` where the data does not say.
        groups: One name an example, or `None`: a group never stands in two splits.
        notices: Sentences for the user, so far.
        digests: The fingerprint of each input, `uint8[N, 32]`, where they are known already.
        blank: Which texts are empty, `bool[N]`, where that is known already.
        folder: Where what is made of very many examples is put, and not held in memory.
        slices: Columns by which figures are told apart, by name.
    """

    modality: Modality
    inputs: Sequence[Any]
    values: Any
    ids: Any
    brought: Any
    groups: Any = None
    notices: list[str] = field(default_factory=list)
    digests: np.ndarray | None = None
    blank: np.ndarray | None = None
    folder: Path | None = None
    slices: dict[str, Values] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, indices: Sequence[int] | np.ndarray) -> Collection:
        """Return the examples at `indices`, in that order."""
        return Collection(
            self.modality,
            choose(self.inputs, indices),
            choose(self.values, indices),
            choose(self.ids, indices),
            choose(self.brought, indices),
            None if self.groups is None else choose(self.groups, indices),
            self.notices,
            None if self.digests is None else self._digests_of(np.asarray(indices)),
            None if self.blank is None else self.blank[np.asarray(indices, "int64")],
            self.folder,
            {name: values.choose(indices) for name, values in self.slices.items()},
        )

    def _digests_of(self, rows: np.ndarray) -> np.ndarray:
        assert self.digests is not None and self.folder is not None
        return copied(self.digests, rows, self.folder)


def choose(inputs: Sequence[Any], indices: Sequence[int] | np.ndarray) -> Sequence[Any]:
    """Return the inputs at `indices`, unread where they are read late."""
    lazily = getattr(inputs, "choose", None)
    return lazily(indices) if lazily else [inputs[int(i)] for i in indices]


def to_splits(
    found: Collection,
    *,
    kind: str,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    split: str = "stratified",
    label_names: Sequence[str] | None = None,
    label_delimiter: str | None = ",",
    label_key: str = "data.label",
    limit: int | None = None,
    source: Mapping[str, Any] | None = None,
) -> Splits:
    """Name the labels, carve out the splits that the data does not bring, and check the result.

    Args:
        found: The examples.
        kind: `"single"`, `"multi"`, `"number"`, `"numbers"` or `"boxes"`.
        seed: Another seed, another split.
        validation: The part of the training examples to validate on, if the data brings none.
        test: The same for the test; 0 for none.
        split: `"stratified"` or `"hash"`, see `splits.divide`.
        label_names: The class names, in order, or `None` for what the labels say.
        label_delimiter: What parts the labels of one example, for kind `"multi"`.
        label_key: The config key behind the labels, for messages.
        limit: Train on the first so many examples of a shuffle only.
        source: Plain values for the manifest.

    Returns:
        The `Splits`.

    Raises:
        UserError: If labels or ratios are wrong, or if a split or a class comes out empty.
    """
    if not len(found):
        raise UserError(" ".join(["The data holds no example that can be used.", *found.notices]))
    brought = sorted(set(found.brought), key=SPLIT_NAMES.index)
    if "train" not in brought:
        raise UserError(
            f"The data brings no split to train on. Received: {', '.join(brought)}. "
            "Add a train split, or leave the split out so that it is made by ratio."
        )
    check_ratios(validation, test, split, brought)
    try:
        encoded = encode(
            found.values, found.ids, kind=kind, names=label_names, delimiter=label_delimiter,
            key=label_key,
        )  # fmt: skip
    except UserError as error:
        if len(set(map(str, found.values))) > 1:
            raise
        # What was left out may be all of the other classes.
        raise UserError(" ".join([str(error), *found.notices])) from error
    sliced, slices, told = cut_all(found.slices)
    labels, array = encoded.labels, encoded.array
    notices = [*found.notices, *encoded.notices, *told]
    codes = _codes(found.brought)
    missing = {"validation": validation, "test": test}
    missing = {name: 0.0 if name in brought else r for name, r in missing.items()}
    prints = _Prints(found)
    if any(missing.values()):
        pool = np.flatnonzero(codes == 0)
        codes[pool] = divide(
            # Where no groups are named, what is exactly the same is one group: a copy of a
            # training example in the test would flatter the model.
            prints.of(pool)[0] if found.groups is None else choose(found.groups, pool),
            strata=strata(labels, array)[pool],
            method=split,
            seed=seed,
            **missing,
        )
    wanted = [n for n in SPLIT_NAMES if n in brought or n == "validation" or missing.get(n)]
    members = {name: np.flatnonzero(codes == SPLIT_NAMES.index(name)) for name in wanted}
    sizes = {name: len(indices) for name, indices in members.items()}
    if empty := [name for name, size in sizes.items() if not size]:
        raise UserError(
            f"{len(found):,} examples leave none for: {', '.join(empty)} "
            f"({describe_sizes(sizes)}). Add examples (exact copies count as one, and groups "
            "stay together), or raise the ratio of that split."
        )
    notices += check_cover(labels, array, members, found.ids, brought, label_names is not None)
    if limit is not None:
        whole, members["train"] = members["train"], limited(
            members["train"], limit, seed, labels, array
        )
        notices += check_limited(labels, array, whole, members["train"], limit)
    parts = {
        name: Examples(
            found.modality,
            choose(found.inputs, indices),
            encoded.annotations.take(indices),
            _tuple(choose(found.ids, indices)),
            Rows.of({n: one[indices] for n, one in sliced.items()}) if sliced else None,
        )
        for name, indices in members.items()
    }
    for name, indices in members.items():
        parts[name].note(*prints.of(indices))
    copies = find_copies(parts, labels)
    notices += copies_told(copies, "image" if found.modality == "images" else "text")
    said: dict[str, Any] = {"brought": list(brought), "seed": seed, "limit": limit}
    if any(missing.values()):
        said |= {"split": split, **{name: r for name, r in missing.items() if r}}
    return Splits(
        parts["train"],
        parts["validation"],
        parts.get("test"),
        labels,
        source={**(source or {}), **said},
        notices=tuple(notices),
        copies=tuple(copies),
        slices=slices,
    )


class _Prints:
    """The fingerprints of what was found, computed of no more than is asked for, and once."""

    def __init__(self, found: Collection) -> None:
        self.found = found
        if found.digests is not None:
            return
        self.digests = np.zeros((len(found), 32), "uint8")
        self.stamps = None if found.modality == "text" else np.zeros((len(found), 2), "int64")
        self.known = np.zeros(len(found), bool)

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what `Examples.note` takes of some rows."""
        there, folder = self.found.digests, self.found.folder
        if there is not None and folder is not None:
            if len(rows) == len(there) and (rows[1:] > rows[:-1]).all():
                return there, None
            return copied(there, rows, folder), None
        new = rows[~self.known[rows]]
        inputs = choose(self.found.inputs, new)
        if self.stamps is not None:
            self.stamps[new] = stamps_of(inputs, self.found.modality)
        self.digests[new] = digests_of(inputs, self.found.modality)
        self.known[new] = True
        return self.digests[rows], None if self.stamps is None else self.stamps[rows]


def _codes(brought: Any) -> np.ndarray:
    """Return the number of the split of each example, `int8[N]`."""
    if isinstance(brought, Coded):
        return brought.mapped([SPLIT_NAMES.index(name) for name in brought.distinct], "int8")
    return np.array([SPLIT_NAMES.index(name) for name in brought], "int8")


def _tuple(ids: Any) -> Any:
    return tuple(ids) if isinstance(ids, list) else ids
