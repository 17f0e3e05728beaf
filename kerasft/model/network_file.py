"""A network from a `.keras` file of the user's own, in the form that a backbone takes."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError, in_short, nearest
from kerasft.system.folders import located, require_path, whereabouts
from kerasft.system.recorded import is_figure

if TYPE_CHECKING:
    import keras

_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_network(path: str, layer: str | None = None) -> Any:
    """Return the network of a `.keras` file as a functional model.

    Args:
        path: The file. It is read in Keras' safe mode.
        layer: Cuts the network at this layer's output; by default at the model's own output.

    Returns:
        A functional `keras.Model`; one of a single input takes it as it is, not in a list or dict.

    Raises:
        UserError: If the file cannot be read, or holds no functional or Sequential model.
    """
    import keras

    import kerasft.model.layers
    import kerasft.model.surgery.operated  # noqa: F401  (the file may be one of ours)

    file = require_file(path)
    try:
        network = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:
        raise UserError(
            f"backbone.path: {str(path)!r} could not be loaded: {in_short(error)}"
        ) from error
    inputs, outputs = _ends(network)
    if layer is not None:
        outputs = _output_of(network, layer)
    is_of_text = isinstance(inputs, dict) and "token_ids" in inputs
    single = len(network.inputs) == 1 and not is_of_text
    if isinstance(network, keras.Sequential) or layer is not None or (
        single and isinstance(inputs, dict | list | tuple)
    ):
        network = keras.Model(network.inputs[0] if single else inputs, outputs)
    return network


def require_pixels(value: object, key: str) -> None:
    """See that a scale or an offset of pixels is a number, or one for each channel.

    Args:
        value: What the config gives.
        key: The config key.

    Raises:
        UserError: If it is neither.
    """
    numbers = [value] if not isinstance(value, Sequence) or isinstance(value, str) else list(value)
    if len(numbers) not in (1, 3) or not all(map(is_figure, numbers)):
        raise UserError(
            f"{key} must be a number, or three in the order of the channels. "
            f"Received: {key}={value!r}."
        )


def require_file(path: str) -> Path:
    """Return the place of a `.keras` file, or say what is there instead."""
    file = located(require_path(path, "backbone.path"))
    received = f"Received: backbone.path={str(path)!r}"
    if file.is_dir() or file.suffix != ".keras":
        raise UserError(f"backbone.path must be a .keras file. {received}.")
    if not file.is_file():
        raise UserError(
            f"backbone.path must be a .keras file, and there is none of that name. {received}."
            + whereabouts(path)
        )
    try:
        with open(file, "rb") as opened:
            begins = opened.read(len(_HDF5))
        is_zip = zipfile.is_zipfile(file)
    except OSError as error:
        raise UserError(
            f"backbone.path: {str(path)!r} cannot be read: {error.strerror or error}."
        ) from error
    if not is_zip:
        found = "an HDF5 file, the format before .keras: load it with Keras (as NAME.h5) and save "
        found += "it as NAME.keras"
        raise UserError(
            f"backbone.path: {str(path)!r} is no .keras file, which is a zip archive, but "
            f"{found if begins == _HDF5 else 'something else, or cut off'}."
        )
    if not _describes_something(file):
        raise UserError(
            f"backbone.path: {str(path)!r} is a zip archive, but no .keras file of Keras 3: it has "
            "no config.json that describes a network, or it is damaged."
        )
    return file


def _ends(network: keras.Model) -> tuple[Any, Any]:
    """Return the inputs and outputs of a network's graph."""
    import keras

    allowed = "backbone.path must hold a functional model, or a Sequential with an input shape. "
    if isinstance(network, keras.Sequential):
        if not network.layers or not getattr(network, "inputs", None):
            raise UserError(
                f"{allowed}Received: a Sequential without {'one' if network.layers else 'layers'}. "
                "Put keras.Input((height, width, 3)) first and save it again."
            )
        return network.inputs, network.outputs[0]
    if isinstance(network, keras.Model) and getattr(network, "inputs", None):
        return network.input, network.output
    kind = type(network).__name__
    if isinstance(network, keras.Model):
        raise UserError(
            f"{allowed}Received: {kind}, a subclass of keras.Model without a graph of layers. Save "
            "keras.Model(x, network(x)) with x = keras.Input(...), or its layers as a functional "
            "model."
        )
    what = "a layer" if isinstance(network, keras.Layer) else "no network"
    raise UserError(f"{allowed}Received: {kind}, {what}.")


def _output_of(network: keras.Model, layer: str) -> Any:
    import keras

    names = [one.name for one in network.layers]
    if layer not in names:
        raise UserError(
            f"backbone.layer must be one of {', '.join(names)}. Received: {layer!r}."
            + nearest(str(layer), names)
        )
    found = network.get_layer(layer)
    if isinstance(found, keras.Model):
        # Its `output` is of its own graph, not of the one around it.
        raise UserError(
            f"backbone.layer: {layer!r} is a network within the network, which cannot be cut "
            "there. Choose the layer that follows it, or save a model that ends there."
        )
    return found.output


def _describes_something(file: Path) -> bool:
    """Whether the archive says of what class its network is."""
    try:
        with zipfile.ZipFile(file) as archive:
            described = json.loads(archive.read("config.json"))
    except (KeyError, ValueError, RecursionError, OSError, RuntimeError, NotImplementedError,
            zipfile.BadZipFile, zlib.error):  # fmt: skip
        return False
    return isinstance(described, dict) and isinstance(described.get("class_name"), str)
