"""What TensorFlow Datasets may load: data sets of its own, and features of classes that it has.

The folder in which a data set was prepared names the class of each feature by its import path
(features.json), and TFDS imports whatever module that is. A name with a prefix (`kaggle:x`,
`huggingface:x`, `somebody:x`) leads to code of others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kerasft.console import printable
from kerasft.errors import UserError


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
    # "beans:0.1.0" has a version behind the colon, "kaggle:beans" a name.
    _, colon, behind = head.partition(":")
    if colon and not (behind[:1].isdigit() or behind.startswith(("*", "experimental_latest"))):
        raise UserError(
            "data.name must be a data set of TFDS itself: a prefix fetches data, and may run code, "
            f"of others. Received: data.name={name!r}. Prepare it by yourself, where you trust it "
            "(tfds build), and name the folder in which it was prepared: data.name=DIR."
        )


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
