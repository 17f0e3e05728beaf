"""Texts with entities: the one way from what a reader found to `Splits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasft.data.annotations.spans import Marked, Span, tidied
from kerasft.data.collection import Collection, to_splits
from kerasft.data.policies import policy_problem, without_empty
from kerasft.data.slices import gathered
from kerasft.data.texts import schemes
from kerasft.errors import UserError, some
from kerasft.spec import Splits
from kerasft.system.console import listing


@dataclass
class Found:
    """A text with its entities, as a reader found it.

    Args:
        text: The text; of tagged words those, end to end.
        name: Its name, unique in the data set.
        split: The split that it comes in; `"train"` where the data does not say.
        spans: Its entities.
        tags: A tag for each of its words, in place of `spans`.
        places: Where each of these words begins and ends.
        group: What it belongs to, or `None`: a group never stands in two splits.
        slices: The cells by which figures are told apart, by column.
    """

    text: str
    name: str
    split: str = "train"
    spans: Sequence[Span] = ()
    tags: Sequence[str] | None = None
    places: Sequence[tuple[int, int]] = ()
    group: str | None = None
    slices: Mapping[str, Any] = field(default_factory=dict)


def check_empty(empty: str) -> None:
    """Refuse what is no way to treat empty texts.

    Raises:
        UserError: If it is none.
    """
    if said := policy_problem("data.empty", empty):
        raise UserError(said)


def marked_splits(
    found: Sequence[Found], notices: Sequence[str], *, scheme: str = "auto", empty: str = "skip",
    key: str, tag_key: str = "data.tag", source: Mapping[str, Any], **settings: Any,
) -> Splits:
    """Check texts and their entities, and return them as splits.

    Args:
        found: What a reader found.
        notices: What it has to say.
        scheme: How tags are written, one of `schemes.SCHEMES` or `"auto"`.
        empty: `"skip"` leaves out empty texts and says which, `"fail"` stops.
        key: The config key behind the entities, for messages.
        tag_key: The one behind tags.
        source: Plain values for the manifest.
        **settings: For `to_splits`.

    Raises:
        UserError: If texts, tags or entities are wrong.
    """
    said = list(notices)
    bare = [one.name for one in found if not one.text.strip()]
    said += without_empty(bare, empty, which="those")
    found = [one for one in found if one.text.strip()]
    tagged = [one for one in found if one.tags is not None]
    chosen = scheme
    if tagged:
        if scheme != "io":
            written = schemes.written_out([one.tags or () for one in tagged])
            for one, tags in zip(tagged, written, strict=True):
                one.tags = tags
        if scheme == "auto":
            chosen = schemes.told([one.tags or () for one in tagged], tag_key)
            if chosen == "iob1":
                said.append("Tags are read as IOB1: most entities begin with I-, and with B- only "
                            "behind another of their type. If I- without B- is a mistake, set "
                            "data.scheme=iob2.")  # fmt: skip
        said += _mark(tagged, chosen)
    marked, told = tidied(
        [Marked(one.text, tuple(one.spans)) for one in found], [one.name for one in found], key
    )
    groups = [one.group for one in found]
    whole = bool(groups) and all(group is not None for group in groups)
    collection = Collection(
        "text", [one.text for one in found], list(marked), [one.name for one in found],
        [one.split for one in found], groups=[str(one) for one in groups] if whole else None,
        notices=[*said, *told], slices=gathered([one.slices for one in found]),
    )  # fmt: skip
    splits = to_splits(
        collection, label_key=key,
        source={**source, **({"scheme": chosen} if tagged else {})}, **settings,
    )  # fmt: skip
    for name, part in splits.parts.items():
        lengths = part.annotations.lengths("spans")
        if name != "test" and lengths is not None and not lengths.any():
            raise UserError(
                f"{key}: no text of {name} has an entity, so that nothing can be "
                f"{'learned' if name == 'train' else 'chosen by it'}. Bring others, or other "
                f"ratios (data.validation)."
            )
    return splits


def _mark(tagged: Sequence[Found], scheme: str) -> list[str]:
    """Give texts the entities that their tags mean; say which tags fit none."""
    odd = []
    for one in tagged:
        assert one.tags is not None
        runs, wrong = schemes.runs_of(one.tags, scheme)
        one.spans = [(one.places[a][0], one.places[b][1], kind) for a, b, kind in runs]
        odd += [f"{one.name}: {one.text[slice(*one.places[i])]!r} ({one.tags[i]})" for i in wrong]
    how = {
        "bioes": "whose entity is not begun or not ended as tags of BIOES do, taken as one",
        "iob2": "inside of an entity that has no begin (I- without B-), which begin one",
    }
    return [f"{some(len(odd), 'tag')} {how[scheme]}: {listing(odd)}."] if odd else []
