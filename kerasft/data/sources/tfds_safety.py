"""What TensorFlow Datasets may load: data sets of its own, and features of classes that it has.

The folder in which a data set was prepared names the class of each feature by its import path
(features.json), and TFDS imports whatever module that is. A name with a prefix (`kaggle:x`,
`huggingface:x`, `somebody:x`) leads to code of others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerasft.errors import UserError
from kerasft.system.console import printable

# As TFDS itself knows a version.
_VERSION = re.compile(r"(\d+|\*)(\.(\d+|\*)){2}")


def require_own(name: str) -> None:
    """Refuse the name of a data set whose code or description comes from elsewhere.

    Args:
        name: As TFDS takes it: a name, perhaps with a config, a version and settings.

    Raises:
        UserError: If it has a prefix.

    Example:
        >>> require_own("glue/sst2:2.0.0")
    """
    head = name.split("/")[0]
    # "beans:0.1.0" has a version behind the colon, "kaggle:beans" a name. No name begins with a
    # digit, so that nothing else is both.
    _, colon, behind = head.partition(":")
    if colon and not _VERSION.fullmatch(behind):
        raise UserError(
            "data.name must be a data set of TFDS itself: a prefix fetches data, and may run code, "
            f"of others. Received: data.name={name!r}. Prepare it by yourself, where you trust it "
            "(tfds build), and name the folder in which it was prepared: data.name=DIR."
        )


def require_inside(builder: Any, where: str) -> None:
    """Refuse a prepared folder whose own description names files elsewhere.

    It holds the names of its splits and a pattern for the names of their files, which may lead
    out of it, or to a store of the network (`gs://`).

    Args:
        builder: A builder of TFDS.
        where: The folder or name that is opened, for messages.

    Raises:
        UserError: If a file that a split would be read from is not in the folder.
    """
    folder = os.path.normpath(os.fspath(builder.data_dir))
    for split in builder.info.splits.values():
        for template in _templates(split):
            paths = map(os.fspath, template.sharded_filepaths(len(split.shard_lengths) or 1))
            # The name alone: `a/..` is out of the folder too, if `a` is a link.
            outside = [
                path for path in paths
                if "://" in path or ".." in path.split("/") or str(Path(path).parent) != folder
            ]
            if outside:
                raise UserError(
                    f"data.name: {where} names files out of its own folder for the split "
                    f"{printable(str(split.name))!r}: {printable(outside[0])!r}. Its "
                    "dataset_info.json may come from a stranger; prepare the data set yourself "
                    "(tfds build), or put the files into the folder."
                )


def _templates(split: object) -> list[Any]:
    parts = getattr(split, "split_infos", None) or [split]
    return [part.filename_template for part in parts if part.filename_template]


class ForeignFeature(Exception):
    """A prepared folder names a class that TFDS does not have."""


@contextmanager
def own_features_alone(module: Any, where: str) -> Iterator[None]:
    """Let TFDS restore features of classes that it has, and import none that a folder names.

    Args:
        module: `tensorflow_datasets`.
        where: The folder or name that is opened, for messages.

    Raises:
        UserError: If it names another class.

    Example:
        >>> import tensorflow_datasets
        >>> with own_features_alone(tensorflow_datasets, "mnist"):
        ...     pass
    """
    connector = module.features.FeatureConnector
    found_by = connector.__dict__["cls_from_name"]

    def known_alone(cls: Any, python_class_name: str) -> Any:
        if python_class_name not in cls._registered_features:
            raise ForeignFeature(python_class_name)
        return found_by.__func__(cls, python_class_name)

    connector.cls_from_name = classmethod(known_alone)
    try:
        yield
    except Exception as error:
        if foreign := _cause(error):
            raise UserError(
                f"data.name: {where} holds a feature of the class {printable(str(foreign))!r}, "
                "which TFDS does not have; to read it, code that came with the data set would be "
                "imported. Write the examples as another kind of data (data=image_folder, "
                "data=table, data=tfrecord)."
            ) from error
        raise
    finally:
        connector.cls_from_name = found_by


def _cause(error: BaseException | None) -> ForeignFeature | None:
    """Return what was refused, from below the exceptions that TFDS wraps it in."""
    while error is not None and not isinstance(error, ForeignFeature):
        error = error.__cause__ or error.__context__
    return error
