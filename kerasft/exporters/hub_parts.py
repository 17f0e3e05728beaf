"""KerasHub's own classes for a backbone, and backbones as these take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import UserError
from kerasft.exporters.copied import copied

if TYPE_CHECKING:
    import keras


def of_backbone(base: type, backbone: type) -> Any:
    """Return KerasHub's subclass that belongs to a class of backbones, or the base.

    Args:
        base: A class of KerasHub, such as `keras_hub.models.CausalLM`.
        backbone: The class of a backbone.

    Example:
        >>> import keras_hub
        >>> models = keras_hub.models
        >>> of_backbone(models.CausalLM, models.GPT2Backbone).__name__
        'GPT2CausalLM'
    """
    import keras_hub

    rooms = (keras_hub.models, keras_hub.layers)
    every = [getattr(room, name) for room in rooms for name in dir(room)]
    found = [one for one in every if isinstance(one, type) and issubclass(one, base)
             and getattr(one, "backbone_cls", None) is backbone]  # fmt: skip
    return found[0] if found else base


def require_backbone(network: object, form: str) -> None:
    """See that a network is a backbone of KerasHub as its class makes it.

    Raises:
        UserError: If not.
    """
    import keras_hub

    if not isinstance(network, keras_hub.models.Backbone):
        raise UserError(
            f"export={form} writes networks whose backbone is KerasHub's (backbone=preset), "
            f"without surgery. Received: a {type(network).__module__.partition('.')[0]} "
            f"{type(network).__name__}. Choose export=keras."
        )


def twin(network: keras.Model, form: str) -> Any:
    """Return the same backbone once more, in float32, plain as its class makes it.

    Raises:
        UserError: If its layers were changed.
    """
    import keras

    config = network.get_config()
    if getattr(network, "tie_word_embeddings", False):
        config.setdefault("tie_word_embeddings", True)  # KerasHub's Llama forgets it
    config["dtype"] = keras.saving.serialize_keras_object(keras.DTypePolicy("float32"))
    return copied(
        network, config=config,
        problem=f"export={form}: the layers of this {type(network).__name__} were changed, so that "
        "its weights fit no backbone of KerasHub. Choose export=keras.",
    )


def mend(network: keras.Model, folder: Path) -> None:
    """Write into the config of a preset what KerasHub's Llama leaves out of it."""
    if not getattr(network, "tie_word_embeddings", False):
        return
    for file in (folder / "config.json", folder / "task.json"):
        said = json.loads(file.read_text("utf-8"))
        of_backbone = said["config"].get("backbone", said)["config"]
        of_backbone.setdefault("tie_word_embeddings", True)
        file.write_text(json.dumps(said, indent=4), "utf-8")
