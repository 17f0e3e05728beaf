"""Adapters: what trains in place of the backbone's own weights, or of most of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kerasft.catalogue.adapters import LowRankSettings
from kerasft.errors import UserError
from kerasft.model.adapting import adapter_file, peft_layout
from kerasft.model.adapting.adaptation import (
    Adaptation,
    adaptable,
    adaptation_of,
    adapting,
    backbone_layers,
    forget_traces,
    path_of,
)
from kerasft.model.adapting.targets import chosen
from kerasft.system.console import listing
from kerasft.system.folders import located, require_path
from kerasft.system.variables import unnumbered

if TYPE_CHECKING:
    import keras


def lora(
    model: keras.Model, *, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0,
    targets: list[str] | None = None, layers: float = 1.0,
    base: Literal["float", "int8"] = "float",
) -> Any:
    """Train a low-rank update beside kernels, which stay as they are (LoRA, Hu et al. 2021).

    A layer computes `inputs kernel + alpha / rank (inputs a) b`. `a` has `rank` columns and begins
    at random, `b` begins with zeros (those of an embedding the other way round), so that nothing
    changes before the first step. Of a convolution, `a` is one of `rank` filters and `b` one of
    single positions. Stages choose among the head and the updates alone. The final model, exports
    and `best.keras` hold `kernel + alpha / rank a b` in plain layers.

    Args:
        model: The assembled model; it is changed in place.
        rank: The rank of each update, at least 1 and at most the smaller side of a kernel.
        alpha: Scale: the update counts `alpha / rank` times.
        dropout: Share of the update's inputs dropped in training, from 0 to below 1.
        targets: Regular expressions that are searched in the paths of layers, as
            `finetune.NAME.train` has them: `["query$", "value$"]`. They may name `Dense`,
            `EinsumDense` (products of matrices), `Embedding` and `Conv` layers without groups.
            `null` takes all of these but embeddings whose update has fewer weights than the kernel.
        layers: The share of the backbone's top-level layers, counted from the head down, that get
            one. With less than 1, activations of the lower ones are kept in the cache.
        base: `"int8"` keeps the kernels below the updates as `int8` while training, a quarter of
            their memory, where Keras can: `Dense`, `EinsumDense` and `Embedding`. Other layers stay
            in float. The final model is in float, of the rounded kernels.

    Returns:
        The same model.

    Raises:
        UserError: If a target matches no layer, or none that takes an update, or the rank is larger
            than a side of a kernel.

    Example:
        On the command line: `kerasft train adapt=lora adapt.lora.rank=4
        'adapt.lora.targets=["query$","value$"]'`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = lora(assemble.assemble(tiny.text("bert"), build), targets=["query$"], rank=2)
        >>> len(model.adaptation.layers)
        2
    """
    from kerasft.model.adapting import low_rank

    settings = LowRankSettings(rank, alpha, dropout, targets, layers, base)
    if problems := list(settings.problems("lora")):
        raise UserError(problems=[text for _, text in problems])
    found = chosen(model, targets, rank, layers)
    if base == "int8" and not any(map(low_rank.quantizable, found)):
        kinds = listing(sorted({low_rank.name_of(one) for one in found}))
        raise UserError(
            "adapt.lora.base=int8: Keras quantizes Dense, EinsumDense and Embedding layers, and "
            f"the targets are {kinds}. Set adapt.lora.base=float."
        )
    places = {id(layer): place for place, layer in enumerate(adaptable(model))}
    _update(model, adapting(model), found, {
        "kind": "lora", "rank": rank, "alpha": float(alpha), "dropout": float(dropout),
        "base": base,
        "targets": [[places[id(layer)], unnumbered(path_of(layer))] for layer in found],
    })  # fmt: skip
    return model


def _update(
    model: keras.Model, adaptation: Adaptation, layers: Sequence[Any], record: dict[str, Any]
) -> None:
    """Give layers of a model the update that a record describes."""
    from kerasft.model.adapting import low_rank

    for layer in layers:
        quantize = record["base"] == "int8" and low_rank.quantizable(layer)
        low_rank.adapt(
            layer, rank=record["rank"], alpha=record["alpha"], dropout=record["dropout"],
            quantize=quantize,
        )
        adaptation.let([layer.lora_a, layer.lora_b])
    adaptation.layers += layers
    adaptation.records.append(record)
    kinds = Counter(map(low_rank.name_of, layers))
    added = sum(math.prod(v.shape) for layer in layers for v in (layer.lora_a, layer.lora_b))
    in_int8 = ", kernels in int8" if record["base"] == "int8" else ""
    adaptation.notes.append(
        f"lora of rank {record['rank']}, alpha {record['alpha']:g}{in_int8}, on {len(layers)} "
        f"layers ({listing(f'{count} {name}' for name, count in kinds.items())}): {added:,} weights"
    )
    forget_traces(model)


def bias(model: keras.Model) -> Any:
    """Train the biases of the backbone alone (BitFit, Ben Zaken et al. 2021), and the head.

    The offsets of norms count as biases, but those of batch normalization, whose statistics would
    change with them.

    Args:
        model: The assembled model; it is changed in place.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone has no bias.

    Example:
        On the command line: `kerasft train adapt=bias`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = bias(assemble.assemble(tiny.text("bert"), build))
        >>> sorted({variable.name for variable in model.adaptation.state})
        ['beta', 'bias']
    """
    import keras

    found = [
        variable for layer in backbone_layers(model) for variable in layer._trainable_variables
        if variable.name == "bias" or (
            variable.name == "beta" and not isinstance(layer, keras.layers.BatchNormalization)
        )
    ]  # fmt: skip
    if not found:
        raise UserError(
            "adapt.bias finds no bias in this backbone; convolutions before a batch normalization "
            "have none. Choose adapt=norm or adapt=lora."
        )
    _let(model, "bias", found, [])
    return model


def norm(model: keras.Model) -> Any:
    """Train the scales and offsets of the backbone's norms alone, and the head.

    Batch normalization then uses and updates the statistics of its batches, whatever the backbone
    was pretrained on, unless a stage says `batch_norm: frozen`.

    Args:
        model: The assembled model; it is changed in place.

    Returns:
        The same model.

    Raises:
        UserError: If the backbone has no norm with weights.

    Example:
        On the command line: `kerasft train adapt=norm`.

        >>> from kerasft.model import assemble, tiny
        >>> from kerasft.model.heads import pooled
        >>> build = lambda features: pooled.linear(features, units=2)
        >>> model = norm(assemble.assemble(tiny.text("bert"), build))
        >>> sorted({variable.name for variable in model.adaptation.state})
        ['beta', 'gamma']
    """
    # By name: networks of KerasHub have norms of their own.
    norms = [one for one in backbone_layers(model) if "norm" in type(one).__name__.lower()]
    found = [variable for layer in norms for variable in layer._trainable_variables]
    if not found:
        raise UserError(
            "adapt.norm finds no norm with weights in this backbone. Choose adapt=bias or "
            "adapt=lora."
        )
    statistics = [
        variable for layer in norms for variable in layer._non_trainable_variables
        if layer._trainable_variables
    ]  # fmt: skip
    _let(model, "norm", found, statistics)
    return model


def _let(model: keras.Model, kind: str, found: list[Any], further: list[Any]) -> None:
    adaptation = adapting(model)
    adaptation.records.append({"kind": kind})
    adaptation.let(found, further)
    weights = sum(math.prod(variable.shape) for variable in found)
    adaptation.notes.append(f"{kind}: {len(found)} variables of the backbone, {weights:,} weights")




def saved(model: keras.Model, *, path: str) -> Any:
    """Adapt a model as another run did, and begin with what that run learned.

    The backbone must have the weights that the adapter was trained on, to the bit. Adapters and
    head go on training as the stages say; where the head of the file has other shapes than this
    one, it is left out.

    A folder in the layout of Hugging Face's PEFT (`adapter_config.json` and
    `adapter_model.safetensors`) is read, too, for backbones whose layers are known there: BERT,
    GPT-2, Llama, Mistral, Gemma, Qwen. It brings no head.

    Args:
        model: The assembled model; it is changed in place.
        path: The file `RUN/checkpoints/adapter.safetensors`, the folder that `export=adapter`
            wrote, or one of PEFT.

    Returns:
        The same model.

    Raises:
        UserError: If the file is none, or belongs to other weights.

    Example:
        On the command line: `kerasft train adapt=saved
        adapt.saved.path=outputs/run/checkpoints/adapter.safetensors`.

        >>> saved(model, path="outputs/last/checkpoints/adapter.safetensors")  # doctest: +SKIP
    """
    file = located(require_path(path, "adapt.saved.path"))
    if (held := adaptation_of(model)) is not None and held.records:
        raise UserError("adapt.saved goes with no other adapter: its file says all of them.")
    if (file / peft_layout.CONFIG).is_file():
        return _from_peft(model, file)
    if (file / adapter_file.NAME).is_file():  # what export=adapter wrote
        file = file / adapter_file.NAME
    adapter = adapter_file.read_adapter(file)
    adaptation = adapting(model)
    adapter_file.require_base(adapter, adaptation.base, file)
    for record in adapter.records:
        if record["kind"] == "lora":
            _update(model, adaptation, _recorded(model, record, file), dict(record))
        else:
            {"bias": bias, "norm": norm}[record["kind"]](model)
    note = adapter_file.give(adapter, model, file)
    adaptation.notes += [f"its weights are those of {path}", *([note] if note else [])]
    return model


def _from_peft(model: keras.Model, folder: Path) -> Any:
    """Adapt a model as a folder in PEFT's layout says."""
    found = peft_layout.read(folder, model)
    adaptation = adapting(model)
    if found.base and found.base != adaptation.base:
        adapter_file.refuse_base(folder, found.named, found.base, adaptation.base)
    places = {id(layer): place for place, layer in enumerate(adaptable(model))}
    for record, layers in found.records():
        targets = [[places[id(layer)], unnumbered(path_of(layer))] for layer in layers]
        _update(model, adaptation, layers, record | {"targets": targets})
    found.give()
    adaptation.notes += [f"its weights are those of {folder}, in PEFT's layout", *(
        [] if found.base else ["the folder does not say by a digest which weights it belongs to: "
                               f"it names {found.named or 'none'}"]
    )]  # fmt: skip
    return model


def _recorded(model: keras.Model, record: Mapping[str, Any], file: Path) -> list[Any]:
    """Return the layers that a record names, by their places among those that take an update."""
    from kerasft.model.adapting import low_rank

    settings = LowRankSettings(
        record["rank"], record["alpha"], record["dropout"], base=record["base"]
    )
    if problems := list(settings.problems("saved")):
        raise UserError(f"{str(file)!r} is damaged: {problems[0][1]}")
    there, found = adaptable(model), []
    for place, path in record["targets"]:
        if not 0 <= place < len(there) or unnumbered(path_of(there[place])) != path:
            raise UserError(
                f"The adapter {str(file)!r} does not fit: it adapts a layer {path!r} that this "
                "backbone has not, or not at its place. The backbone or a version has changed."
            )
        layer = there[place]
        if low_rank.objection(layer) or record["rank"] > low_rank.largest_rank(layer):
            raise UserError(f"{str(file)!r} is damaged: {path!r} takes no such update.")
        found.append(layer)
    return found
