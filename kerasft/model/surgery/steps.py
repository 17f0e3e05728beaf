"""The steps of surgery, as configs name them. Nothing here imports Keras before a step is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kerasft.errors import UserError, shown

if TYPE_CHECKING:
    from kerasft.model.surgery.operated import Graph

ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish",
               "hard_silu", "softplus", "tanh", "linear")  # fmt: skip
# The most channels that an image file can have: colours and alpha.
CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGB and alpha"}


@dataclass(frozen=True)
class Cut:
    """Keep the network up to a layer, whose output becomes that of the backbone.

    Args:
        layer: The path of the layer, a glob or a regular expression; it must mean one layer.

    Example:
        >>> Cut("conv_pw_11_relu").layer  # surgery=cut surgery.cut.layer=conv_pw_11_relu
        'conv_pw_11_relu'
    """

    layer: str

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.editing import cut

        return cut(graph, self.layer)


@dataclass(frozen=True)
class Remove:
    """Leave layers out.

    Layers that hang together are left out as one piece, a whole residual block, say. What goes
    into a piece must have the shape of what comes out of it.

    Args:
        layers: A path, a glob or a regular expression, or several of them.

    Example:
        >>> Remove("layer_[45]$").layers  # surgery=remove 'surgery.remove.layers=layer_[45]$'
        'layer_[45]$'
    """

    layers: str | list[str]

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.editing import remove

        return remove(graph, self.layers)


@dataclass(frozen=True)
class Replace:
    """Exchange the activation, the normalization, the dropout rate or the pooling of layers.

    Of the layers that are meant, and of all within them, it changes those that have the thing.
    Gates (sigmoid, softmax, tanh) are no activations to it unless their layer is named by its whole
    path. A new normalization takes over scale and offset where the old one has them.

    Args:
        layers: A path, a glob or a regular expression, or several of them.
        activation: The new activation.
        norm: The new kind of normalization; `"none"` leaves it out.
        dropout: The new rate of dropout, from 0 to below 1.
        pooling: The new kind of pooling.

    Example:
        >>> Replace("**", dropout=0.2).dropout  # surgery=replace surgery.replace.dropout=0.2
        0.2
        >>> Replace("**")
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: surgery.NAME replaces one of activation, norm, dropout, ...
    """

    layers: str | list[str] = "**"
    activation: str | None = None
    norm: Literal["batch", "layer", "group", "rms", "none"] | None = None
    dropout: float | None = None
    pooling: Literal["max", "average"] | None = None

    def __post_init__(self) -> None:
        given = {"activation": self.activation, "norm": self.norm, "dropout": self.dropout,
                 "pooling": self.pooling}  # fmt: skip
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            raise UserError(
                "surgery.NAME replaces one of activation, norm, dropout, pooling; further steps "
                f"have further names. Received: {', '.join(names) or 'none of them'}."
            )
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise UserError(
                f"surgery.NAME.activation must be one of {', '.join(ACTIVATIONS)}. Received: "
                f"{shown(self.activation)}."
            )
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(
                "surgery.NAME.dropout is a share: from 0 to below 1. Received: "
                f"{shown(self.dropout)}."
            )

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery import exchanging

        for name in ("activation", "norm", "dropout", "pooling"):
            if (value := getattr(self, name)) is not None:
                return getattr(exchanging, name)(graph, self.layers, value)
        raise AssertionError("One of them is there.")


@dataclass(frozen=True)
class InsertAfter:
    """Put a layer behind others; each gets one of its own.

    The new layer must keep the shape of what it takes.

    Args:
        after: A path, a glob or a regular expression, or several of them.
        layer: A Keras layer, in a config as a call of its own.

    Example:
        >>> step = InsertAfter("transformer_layer_*", keras.layers.Dropout(0.1))
        >>> step.layer.rate  # +surgery.extra.layer._target_=keras.layers.Dropout
        0.1
    """

    after: str | list[str]
    layer: Any

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.editing import insert

        return insert(graph, self.after, self.layer)


@dataclass(frozen=True)
class Reset:
    """Give layers new random weights, as if they had never been trained.

    Args:
        blocks: The topmost blocks of the network: layers that are numbered alike are one block,
            and what has no number belongs to the block before it.
        layers: Instead, a path, a glob or a regular expression, or several of them.

    Example:
        >>> Reset(blocks=2).blocks  # surgery=reset surgery.reset.blocks=2
        2
        >>> Reset()
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: surgery.NAME resets either blocks, ... or layers, ...
    """

    blocks: int | None = None
    layers: str | list[str] | None = None

    def __post_init__(self) -> None:
        if (self.blocks is None) == (self.layers is None):
            raise UserError(
                "surgery.NAME resets either blocks, a number from the top, or layers, a pattern. "
                f"Received: blocks={self.blocks}, layers={shown(self.layers)}."
            )
        if self.blocks is not None and self.blocks < 1:
            raise UserError(
                f"surgery.NAME.blocks must be at least 1. Received: {shown(self.blocks)}."
            )

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.resetting import reset

        return reset(graph, self.blocks, self.layers)


@dataclass(frozen=True)
class InputChannels:
    """Make a network for images take other channels; its first kernel is adapted.

    Images are decoded to these channels in training, prediction and exports alike. Files without
    transparency have an alpha of 255 everywhere.

    Args:
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
        kernel: `"average"` gives each channel the mean of the kernel over the old ones, times old
            by new channels, so that grey images are answered as they were in colours. `"repeat"`
            takes the old ones in turn, with the same factor. `"zeros"` keeps the old ones and
            begins new ones at 0, so that the network computes what it did before. `"auto"` is
            zeros for more channels, and average for fewer.

    Example:
        >>> InputChannels(1).kernel  # surgery=input_channels surgery.input_channels.channels=1
        'auto'
    """

    channels: int
    kernel: Literal["auto", "average", "repeat", "zeros"] = "auto"
    modality = "images"

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            allowed = ", ".join(f"{count} ({what})" for count, what in CHANNELS.items())
            raise UserError(
                "surgery.NAME.channels must be what image files can have: "
                f"{allowed}. Received: {shown(self.channels)}."
            )

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.inputs import input_channels

        return input_channels(graph, self.channels, self.kernel)


@dataclass(frozen=True)
class ImageSize:
    """Make a network for images take another size.

    Learned positions, as vision transformers have them, are interpolated. Convolutional networks
    need this step only where `backbone.image_size` is not taken.

    Args:
        size: Height and width in pixels, one number where they are the same.

    Example:
        >>> ImageSize(160).sides, ImageSize([96, 128]).sides
        ((160, 160), (96, 128))
    """

    size: int | list[int]
    modality = "images"

    def __post_init__(self) -> None:
        given = [self.size] * 2 if isinstance(self.size, int) else list(self.size)
        if len(given) != 2 or not all(type(one) is int and 0 < one <= 100_000 for one in given):
            raise UserError(
                "surgery.NAME.size must be a number of pixels, or two: [height,width]. Received: "
                f"{shown(self.size)}."
            )

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        if isinstance(self.size, int):
            return self.size, self.size
        return self.size[0], self.size[1]

    def __call__(self, graph: Graph) -> str:
        from kerasft.model.surgery.inputs import image_size

        return image_size(graph, self.sides)
