"""Images with something drawn on them: the one way from what a reader found to `Splits`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kerasft.data.collection import Collection, choose, to_splits
from kerasft.data.images.audit import audit
from kerasft.data.images.files import spelled
from kerasft.data.images.held import as_inputs
from kerasft.data.images.shape import check_names, check_orientation
from kerasft.data.slices import gathered
from kerasft.spec import Splits


def drawing_splits(
    found: Sequence[Any], notices: Sequence[str],
    read: Callable[[list[Any], list[str], list[str]], Sequence[Any]], *, broken: str,
    max_pixels: int, orientation: str, **settings: Any,
) -> Splits:
    """Check images and what is drawn on them, and return them as splits.

    Args:
        found: What a reader found: each has an `image`, a `name`, a `split`, a `group`
            and `slices`.
        notices: What it has to say.
        read: Takes those of `found` whose image is sound, their names, and a list for sentences;
            returns what is drawn on each, `None` for an image that is left out.
        broken: See `image_folder`, as `max_pixels`.
        max_pixels: The same.
        orientation: One of `shape.ORIENTATIONS`.
        settings: For `to_splits`.

    Raises:
        UserError: If images, or what is drawn on them, are wrong.
    """
    check_orientation(orientation)
    check_names([(one.name, one) for one in found])
    images = as_inputs([one.image for one in found])
    names = [spelled(one.name) for one in found]
    sound, told = audit(images, names, broken=broken, max_pixels=max_pixels)
    said = [*notices, *told]
    values = read([found[i] for i in sound], [names[i] for i in sound], said)
    kept = {i: value for i, value in zip(sound, values, strict=True) if value is not None}
    groups = [found[i].group for i in kept]
    collection = Collection(
        "images", choose(images, list(kept)), list(kept.values()), [names[i] for i in kept],
        [found[i].split for i in kept], groups=groups if groups and all(groups) else None,
        notices=[spelled(notice) for notice in said],
        slices=gathered([found[i].slices for i in kept]),
    )  # fmt: skip
    return to_splits(collection, **settings)
