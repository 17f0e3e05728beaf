"""Backbones: pretrained networks, each with the preprocessing it was trained with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kerasft.catalogue.networks import unknown_application
from kerasft.errors import UserError, in_short
from kerasft.model.hub import fetch, load_converter, load_tokenizer, preset_folder
from kerasft.model.network_file import read_network, require_pixels
from kerasft.model.preprocess import ImagePreprocess, TextPreprocess
from kerasft.model.usual_rate import usual_rate
from kerasft.model.vision.geometry import side_of, sides
from kerasft.spec import Backbone
from kerasft.system.folders import located, require_path, whereabouts

if TYPE_CHECKING:
    import keras
    import keras_hub

# Input sizes of keras.applications that are not 224 (from their documentation).
APPLICATION_SIZES = {
    "InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331,
    "EfficientNetB1": 240, "EfficientNetB2": 260, "EfficientNetB3": 300, "EfficientNetB4": 380,
    "EfficientNetB5": 456, "EfficientNetB6": 528, "EfficientNetB7": 600,
    "EfficientNetV2B1": 240, "EfficientNetV2B2": 260, "EfficientNetV2B3": 300,
    "EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480,
}


def preset(
    preset: str,
    *,
    sequence_length: int = 128,
    image_size: int | list[int] | None = None,
    resize: Literal["crop", "stretch", "pad"] | None = None,
    pretrained: bool = True,
) -> Backbone:
    """A backbone that KerasHub loads, for images or for text.

    Args:
        preset: A KerasHub preset name, `hf://owner/name`, `kaggle://...`, a local folder in the
            KerasHub layout or in the Hugging Face layout (config.json and model.safetensors),
            `package://PACKAGE/FOLDER` (one that an installed Python package carries), or
            `kerasft://glyphs`, which kerasft carries itself.
        sequence_length: The most tokens of a text.
        image_size: Height and width in pixels, one number where they are the same; by default what
            the preset was trained with.
        resize: How images come to that size; by default as the preset does it.
        pretrained: Whether to load the weights, or to start from random ones.

    Returns:
        A `Backbone`.

    Raises:
        UserError: If the preset is missing, gated, unreachable or of no use here.

    Example:
        >>> preset("kerasft://glyphs").network.output_shape[-1] > 0
        True
    """
    import keras_hub

    folder = preset_folder(preset)
    network = fetch(
        preset, lambda: keras_hub.models.Backbone.from_preset(folder, load_weights=pretrained)
    )
    inputs = network.input if isinstance(network.input, dict) else {"images": network.input}
    if "token_ids" in inputs and set(inputs) <= {"token_ids", "segment_ids", "padding_mask"}:
        tokenizer = fetch(preset, lambda: load_tokenizer(folder, network))
        return text_backbone(
            network, tokenizer, name=preset, sequence_length=sequence_length, pretrained=pretrained
        )
    if len(inputs) == 1 and len(next(iter(inputs.values())).shape) == 4:
        converter = load_converter(folder)
        usual = side_of(getattr(converter, "image_size", None)) or side_of(
            next(iter(inputs.values())).shape[1:3]
        ) or 224
        size = sides(image_size, usual)
        from kerasft.model.vision.detectors import rest_of, without_head

        default = "crop" if getattr(converter, "crop_to_aspect_ratio", True) else (
            "pad" if getattr(converter, "pad_to_aspect_ratio", False) else "stretch"
        )
        cut = without_head(network, size)
        return image_backbone(
            cut,
            ImagePreprocess(*size, resize=resize or default),
            scale=_plain(getattr(converter, "scale", None), 1.0),
            offset=_plain(getattr(converter, "offset", None), 0.0),
            name=preset,
            pretrained=pretrained,
            whole=None if cut is network else rest_of(network, preset, folder, pretrained),
        )
    raise UserError(
        "backbone.preset must be a backbone for text (token_ids) or for images. "
        f"Received: {preset!r}, a {type(network).__name__} that takes {', '.join(inputs)}."
    )


def text_backbone(
    network: keras.Model, tokenizer: keras_hub.tokenizers.Tokenizer, *, name: str,
    sequence_length: int, pretrained: bool,
) -> Backbone:
    """Make a `Backbone` of a KerasHub network for text and its tokenizer."""
    most = getattr(network, "max_sequence_length", None)
    if most and sequence_length > most:
        raise UserError(
            f"backbone.sequence_length must be at most {most}, the longest that {name} was made "
            f"for. Received: {sequence_length}."
        )
    if sequence_length < 8:
        raise UserError(
            f"backbone.sequence_length must be at least 8. Received: {sequence_length}."
        )
    causal = _is_causal(network)
    tokens = network.input["token_ids"]
    _check_vocabulary(network, tokenizer, name)
    return Backbone(
        network,
        TextPreprocess(
            tokenizer,
            inputs=tuple(network.input),
            sequence_length=sequence_length,
            doubled=type(network).__name__ in ("RobertaBackbone", "XLMRobertaBackbone"),
        ),
        name=name,
        learning_rate=usual_rate(network.count_params(), text=True, pretrained=pretrained),
        pretrained=pretrained,
        summary=not causal and len(tokens.shape) == 2,
        causal=causal,
    )


def image_backbone(
    network: keras.Model,
    preprocess: ImagePreprocess,
    *,
    scale: Any = 1.0,
    offset: Any = 0.0,
    bgr: bool = False,
    name: str,
    pretrained: bool,
    whole: Any = None,
) -> Backbone:
    """Make a `Backbone` of a network for images: it takes `uint8` pixels and scales them."""
    from kerasft.model.layers import ImageNetwork

    try:
        scaled = ImageNetwork(
            network, preprocess.height, preprocess.width, scale, offset, bgr, name="backbone"
        )
    except Exception as error:  # the layers' own words, of any type
        raise UserError(
            f"{name} does not take images of {preprocess.height}x{preprocess.width} pixels; set "
            f"backbone.image_size. It takes {network.input_shape}. ({in_short(error)})"
        ) from error
    if any(len(output.shape) < 2 or output.shape[-1] is None for output in scaled.outputs):
        shapes = ", ".join(str(tuple(output.shape)) for output in scaled.outputs)
        raise UserError(
            f"{name} must put out features, [batch, height, width, channels], [batch, positions, "
            f"width] or [batch, width]. Received: {shapes}."
        )
    return Backbone(
        scaled,
        preprocess,
        name=name,
        learning_rate=usual_rate(network.count_params(), text=False, pretrained=pretrained),
        pretrained=pretrained,
        summary=_has_class_token(network),
        feature=_last_stage(network),
        whole=whole,
    )


def applications(
    name: str,
    *,
    weights: str | None = "imagenet",
    image_size: int | list[int] | None = None,
    resize: Literal["crop", "stretch", "pad"] = "crop",
    alpha: float | None = None,
    pretrained: bool = True,
) -> Backbone:
    """A network of keras.applications.

    Args:
        name: The name of its class or function: `"MobileNetV2"`, `"ResNet50"`, `"InceptionV3"`,
            `"EfficientNetV2B0"`, ...
        weights: `"imagenet"`, the path of a weights file, or `None` for random weights.
        image_size: Height and width in pixels, one number where they are the same; by default those
            it was trained with.
        resize: `"crop"`, `"stretch"` or `"pad"`.
        alpha: The width multiplier of the MobileNets.
        pretrained: Whether to load the weights, or to start from random ones.

    Returns:
        A `Backbone`.

    Raises:
        UserError: If there is no such network, or its weights cannot be had.

    Example:
        >>> applications("MobileNetV2", weights=None, image_size=96).network.output_shape
        (None, 3, 3, 1280)
    """
    import keras

    if problem := unknown_application(name):
        raise UserError(problem)
    make = getattr(keras.applications, name)
    size = sides(image_size, APPLICATION_SIZES.get(name, 224))
    source = weights
    if weights not in (None, "imagenet"):
        source = str(located(require_path(weights, "backbone.weights")))
        if not Path(source).is_file():
            raise UserError(
                "backbone.weights must be 'imagenet', null or the path of a weights file. "
                f"Received: {weights!r}, which is no file.{whereabouts(weights)}"
            )
    if not pretrained:
        source = None
    arguments: dict[str, Any] = {"include_top": False, "input_shape": (*size, 3)}
    if alpha is not None:
        arguments["alpha"] = alpha
    try:
        network = make(weights=source, **arguments)
    except TypeError as error:
        raise UserError(f"backbone=applications, name={name}: {error}.") from error
    except ValueError as error:
        hint = " Do the weights belong to this network (alpha, image_size)?" if source else ""
        raise UserError(f"backbone=applications, name={name}: {error}{hint}") from error
    except Exception as error:  # the download: URL errors come as plain exceptions
        if source not in (None, "imagenet"):
            raise UserError(
                f"backbone.weights: {source!r} cannot be loaded into {name}: "
                f"{str(error).splitlines()[0]}. It must be a file of weights that Keras wrote."
            ) from error
        raise UserError(
            f"The weights of {name} could not be downloaded: {str(error).splitlines()[0]} "
            "Set backbone.weights to a file, put the file into ~/.keras/models, or start from "
            "random weights with backbone.weights=null. Without a network there is also "
            "backbone.preset=kerasft://glyphs."
        ) from error
    scale, offset, bgr = _pixel_scaling(name)
    return image_backbone(
        network,
        ImagePreprocess(*size, resize=resize),
        scale=scale, offset=offset, bgr=bgr, name=name, pretrained=source is not None,
    )


def keras_file(
    path: str,
    *,
    layer: str | None = None,
    scale: float | list[float] = 1.0,
    offset: float | list[float] = 0.0,
    bgr: bool = False,
    image_size: int | list[int] | None = None,
    resize: Literal["crop", "stretch", "pad"] = "crop",
    tokenizer: str | None = None,
    sequence_length: int = 128,
    pretrained: bool = True,
) -> Backbone:
    """A `.keras` file of the user's own.

    Args:
        path: The file; it must hold a functional model, or a Sequential with an input shape. It is
            read in Keras' safe mode.
        layer: Cuts the network at this layer's output; by default at the model's own output.
        scale: What pixels 0..255 are multiplied by, one number or one for each channel.
        offset: What is then added.
        bgr: Whether the network takes the channels in reverse order.
        image_size: Height and width in pixels, one number where they are the same, where the model
            leaves them open.
        resize: `"crop"`, `"stretch"` or `"pad"`.
        tokenizer: For a network on text (inputs `token_ids`, ...): a KerasHub tokenizer preset.
        sequence_length: The most tokens of a text.
        pretrained: Whether to keep the weights, or to start from random ones.

    Returns:
        A `Backbone`.

    Raises:
        UserError: If the file cannot be read or holds no such network.
    """
    import keras
    import keras_hub

    require_pixels(scale, "backbone.scale")
    require_pixels(offset, "backbone.offset")
    network = read_network(path, layer)
    name = Path(path).name
    if not pretrained:
        network = keras.models.clone_model(network)
    if isinstance(network.input, dict) and "token_ids" in network.input:
        if tokenizer is None:
            raise UserError("backbone.tokenizer must name the tokenizer of a network on text.")
        folder = preset_folder(tokenizer)
        made = fetch(tokenizer, lambda: keras_hub.tokenizers.Tokenizer.from_preset(folder))
        return text_backbone(network, made, name=name, sequence_length=sequence_length,
                             pretrained=pretrained)
    shape = network.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] not in (3, None):
        raise UserError(
            "backbone.path must hold a network on one image [batch, height, width, 3]. "
            f"Received: input {shape}."
        )
    # A network may have learnt images that are no squares.
    height, width = sides(image_size, None) or (
        side or side_of(shape[1:3]) or 224 for side in shape[1:3]
    )
    return image_backbone(
        network, ImagePreprocess(height, width, resize=resize),
        scale=scale, offset=offset, bgr=bgr, name=name, pretrained=pretrained,
    )


def _plain(value: object, default: float) -> float | list[float]:
    import numpy as np

    if value is None:
        return default
    array = np.asarray(value, "float32").reshape(-1)
    return float(array[0]) if array.size == 1 else [float(v) for v in array]


def _is_causal(network: keras.Model) -> bool:
    """Whether KerasHub has a causal language model on this network and no text classifier."""
    import keras_hub

    def on_this(kind: type) -> bool:
        found = [getattr(keras_hub.models, n) for n in dir(keras_hub.models)]
        return any(
            isinstance(c, type) and issubclass(c, kind) and c is not kind
            and getattr(c, "backbone_cls", None) is type(network)
            for c in found
        )

    return on_this(keras_hub.models.CausalLM) and not on_this(keras_hub.models.TextClassifier)


def _has_class_token(network: keras.Model) -> bool:
    return type(network).__name__ in ("ViTBackbone", "DeiTBackbone", "DINOV2Backbone",
                                      "DINOV3Backbone")


def _last_stage(network: keras.Model) -> str:
    """Return the name of the last stage, of a classifier's network that puts out all its stages."""
    names = getattr(network, "stage_names", None)  # HGNetV2
    return names[-1] if names and isinstance(network.output, dict) else ""


def _check_vocabulary(
    network: keras.Model, tokenizer: keras_hub.tokenizers.Tokenizer, name: str
) -> None:
    """A tokenizer that knows more tokens than the network would read outside the embedding."""
    rows = getattr(network, "vocabulary_size", None) or getattr(network, "vocab_size", None)
    if rows and tokenizer.vocabulary_size() > rows:
        raise UserError(
            f"The tokenizer of {name} has {tokenizer.vocabulary_size()} tokens, but the network "
            f"knows {rows}: they do not belong together."
        )


def _pixel_scaling(name: str) -> tuple[float | list[float], float | list[float], bool]:
    """Read `scale`, `offset` and the channel order off the network's own `preprocess_input`.

    Every one of them is affine in the pixel values, so that black and three single bright
    channels tell it all, for the networks of the future too.
    """
    import keras
    import numpy as np

    # Where the network is defined: not every public module lists its networks (mobilenet_v3).
    module = importlib.import_module(getattr(keras.applications, name).__module__)
    pixels = np.zeros((4, 1, 1, 3), "float32")
    for channel in range(3):
        pixels[channel + 1, 0, 0, channel] = 255.0
    seen = np.asarray(module.preprocess_input(pixels.copy()), "float32")[:, 0, 0]
    offset, slope = seen[0], (seen[1:] - seen[0]) / 255.0
    bgr = bool(abs(slope[0, 2]) > abs(slope[0, 0]))
    diagonal = np.diag(slope[::-1] if bgr else slope)
    return _plain(_same(diagonal), 1.0), _plain(_same(offset), 0.0), bgr


def _same(values: np.ndarray) -> Any:
    import numpy as np

    return values[:1] if np.allclose(values, values[0], rtol=1e-6, atol=0) else values
