"""Examples to be answered, a part at a time; and those of a folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasft.data.annotations.truths import truths
from kerasft.data.images import archive
from kerasft.data.images.annotated import masks_among
from kerasft.data.images.files import spelled, walk_images
from kerasft.errors import UserError, some
from kerasft.spec import Labels, Modality
from kerasft.system.console import listing


@dataclass(frozen=True)
class Unlabeled:
    """Some examples to be answered, in the order of their file or folder.

    Args:
        inputs: As in `Examples`; `None` where there is a problem.
        ids: The user's name of each example, or where it stands. They need not differ.
        places: How messages name each example.
        problems: Why examples cannot be answered, by their index.
        true: What is true of each as a plain value, `None` where that is not known.
        notices: Sentences for the user.
    """

    inputs: Sequence[Any]
    ids: Sequence[str]
    places: Sequence[str]
    problems: Mapping[int, str] = field(default_factory=dict)
    true: Sequence[Any] = ()
    notices: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Questions:
    """All examples to be answered, which have been looked through, and are read again in parts.

    Args:
        modality: `"images"` or `"text"`.
        count: How many there are.
        labelled: Whether it is known of some what is true.
        notices: Sentences for the user.
        parts: Reads them, a part at a time.
    """

    modality: Modality
    count: int
    labelled: bool
    notices: Sequence[str]
    parts: Callable[[], Iterator[Unlabeled]]

    def __len__(self) -> int:
        return self.count


def from_folder(
    given: Path, *, key: str = "--data", labels: Labels | None = None, masks: str | None = None,
) -> Questions:
    """Find the images in a folder, or in a zip of one, that are to be answered.

    Args:
        given: The folder or the zip.
        key: Where it was named, for messages.
        labels: What the model's labels mean, where folders may say them: the first folder on the
            way to an image that is called like a class is its label.
        masks: How the names of folders with masks begin, which are left out, and with them
            images that are named like a mask of another one; `None` where nothing is a mask.

    Returns:
        The images, each named by its path in the folder.

    Raises:
        UserError: If there is no image.

    Example:

    >>> next(from_folder(Path("photos")).parts()).ids  # doctest: +SKIP
    ['cats/1.jpg', 'dogs/1.jpg']
    """
    root = archive.unpack(given) if given.is_file() else given
    others: Counter[str] = Counter()
    paths = list(walk_images(root, others, key=key))
    notices = []
    if masks is not None:
        apart = set(masks_among(paths))
        apart |= {one for one in paths
                  if any(part.startswith(masks) for part in one.relative_to(root).parts[:-1])}
        paths = [one for one in paths if one not in apart]
        if apart:
            notices.append(f"{some(len(apart), 'mask')} left out, which are no images to answer.")
    if not paths:
        raise UserError(f"{key}: there is no image in {str(given)!r}.")
    if others:
        said = listing(f"{count:,} {suffix}" for suffix, count in others.most_common())
        notices.append(f"files in {given} that are no images left out: {said}.")
    ids = [spelled(one.relative_to(root).as_posix()) for one in paths]
    known = set(() if labels is None else labels.names)
    values = [next((part for part in one.relative_to(root).parts[:-1] if part in known), None)
              for one in paths]  # fmt: skip
    true: list[Any] = [None] * len(paths)
    if labels is not None:
        true, about = truths(values, ids, labels)
        notices += about
    found = Unlabeled([str(one) for one in paths], ids, ids, true=true)
    labelled = any(one is not None for one in true)
    return Questions("images", len(found), labelled, notices, lambda: iter([found]))
