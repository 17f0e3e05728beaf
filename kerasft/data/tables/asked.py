"""Which columns of what Python holds are images and masks, and what becomes of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kerasft.data.annotations import kinds
from kerasft.data.images.arrays import encoded, float_scale, is_image
from kerasft.data.images.mask_arrays import mask_png
from kerasft.data.tables import drawn_columns
from kerasft.errors import UserError

# What examples given as a pair are called: what is read, and what is learned of it.
IMAGE, LABEL, OBJECTS, MASK = "image", "label", "objects", "mask"


@dataclass(frozen=True)
class Asked:
    """What a task learns, and the columns that the user names for it.

    Args:
        kind: `"boxes"`, `"masks"`, or anything else, where all arrays of pixels are images.
        image: The column of images, or `None`.
        masks: The column of masks, or `None`.
        scales: What the pixels of images are multiplied by is noted here, by column.
    """

    kind: str = "single"
    image: str | int | None = None
    masks: str | int | None = None
    scales: dict[str, int] = field(default_factory=dict)

    @property
    def drawn(self) -> bool:
        """Whether something that is drawn on images is learned."""
        return kinds.are_drawn(self.kind)

    @property
    def masked(self) -> bool:
        """Whether a class for each pixel is learned."""
        return kinds.are_masks(self.kind)

    def image_of(self, names: Sequence[str], first: Callable[[str], Any]) -> str | None:
        """Return the column of images: the one that is named or usual, or the only one that fits.

        Args:
            names: The columns.
            first: Returns the first value of one.
        """
        if self.image is not None:
            return _chosen(names, self.image)
        if found := drawn_columns.usual(names, drawn_columns.IMAGES):
            return found
        masks = _chosen(names, self.masks)
        shown = [name for name in names if name != masks and _is_shown(first(name))]
        return shown[0] if len(shown) == 1 else None

    def masks_of(self, names: Sequence[str], image: str | None) -> str | None:
        """Return the column of masks: the one that is named or usual.

        Args:
            names: The columns.
            image: That of images.
        """
        if not self.masked or self.masks is not None:
            return _chosen(names, self.masks)
        return drawn_columns.usual([name for name in names if name != image], drawn_columns.MASKS)

    def encoded(
        self, names: Sequence[str], columns: Sequence[list[Any]], called: str
    ) -> list[list[Any]]:
        """Return columns with arrays of pixels as encoded images.

        Args:
            names: The columns.
            columns: The cells of each.
            called: What they are called in messages.

        Raises:
            UserError: If a cell is no image, or no mask.
        """
        image: str | None = None
        masks: str | None = None
        if self.drawn:
            held = dict(zip(names, columns, strict=True))
            image = self.image_of(names, lambda name: next(iter(held[name]), None))
            masks = self.masks_of(names, image)
        result = []
        for name, cells in zip(names, columns, strict=True):
            where = f"{called}, column {name!r}"
            if self.drawn and name == masks:
                cells = [mask_png(one, f"{where}, number {i:,}") for i, one in enumerate(cells)]
            elif (not self.drawn or name == image) and any(map(is_image, cells[:1])):
                self.scales[where] = float_scale(cells, where)
                cells = encoded(cells, where, self.scales[where])
            result.append(cells)
        return result

    def flat(self, columns: Mapping[Any, Any]) -> dict[str, Any]:
        """Return columns by name, those within others joined to them by dots.

        Args:
            columns: The columns. Where nothing drawn is learned they stay as they are.

        Example:
            >>> Asked("boxes").flat({"objects": {"bbox": [], "category": []}})
            {'objects.bbox': [], 'objects.category': []}
        """
        found: dict[str, Any] = {}
        for name, values in columns.items():
            if self.drawn and isinstance(values, Mapping):
                found |= {f"{name}.{one}": cells for one, cells in self.flat(values).items()}
            elif self.drawn and hasattr(values, "row_splits"):  # a ragged tensor
                found[str(name)] = values.to_list()
            else:
                found[str(name)] = values
        return found

    def paired(self, data: tuple[Any, Any], called: str) -> dict[str, Any]:
        """Return the columns of images and of what is drawn on them.

        Args:
            data: Images, and dicts of boxes and their classes, or masks.
            called: What they are called in messages.

        Raises:
            UserError: If the second is something else.
        """
        images, learned = data
        if self.masked:
            return {IMAGE: images, MASK: learned}
        one = next(iter(learned), None) if isinstance(learned, (list, tuple)) else learned
        if isinstance(one, Mapping):
            return {IMAGE: images, OBJECTS: learned}
        raise UserError(
            f"{called}: with task=detection a pair must be (images, boxes), where boxes are a dict "
            '{"boxes": [...], "labels": [...]} with a list an image in each, or a list of such '
            f"dicts, one an image. Received: {type(learned).__name__}."
        )


def _chosen(names: Sequence[str], choice: str | int | None) -> str | None:
    """Return the column that is chosen by name, or by number from 0."""
    name = None if choice is None else str(choice)
    if name is not None and name not in names and name.isdecimal() and int(name) < len(names):
        return names[int(name)]
    return name


def _is_shown(cell: Any) -> bool:
    """Whether a value is an image: encoded, of Pillow, or an array with channels."""
    if isinstance(cell, Mapping):
        return set(cell) <= {"bytes", "path"}
    shape = getattr(cell, "shape", None)
    if shape is not None:
        return len(shape) == 3 and shape[-1] in (1, 3, 4)
    return isinstance(cell, bytes) or is_image(cell)
