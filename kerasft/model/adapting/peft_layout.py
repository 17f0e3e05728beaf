"""Adapters in the layout of Hugging Face's PEFT, to and from it.

Of a layer there are `lora_A` `[rank, inputs]` and `lora_B` `[outputs, rank]`, under the path that
the layer has in the model of `transformers`. Layers of Keras have several axes for inputs or
outputs (heads), which follow each other in the same order there. GPT-2 has one layer for queries,
keys and values: three updates are one of three times the rank, whose second factor is made of
blocks; of one that is read each of the three takes its rows, and all of the first factor.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError, in_short
from kerasft.model.adapting.adaptation import Adaptation, adaptable, adaptation_of, path_of
from kerasft.system.console import listing
from kerasft.system.files import write_json
from kerasft.system.recorded import is_number

if TYPE_CHECKING:
    import keras

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# In the metadata of the tensors: PEFT knows no digest of the base, nor which of three layers that
# are one there has an update.
DIGEST, OURS = "kerasft_base", "kerasft_layers"
# By how much what is read again may differ: products are taken in another order.
ROUNDING = 1e-5

Factors = tuple[np.ndarray, np.ndarray]


class Unfit(ValueError):
    """An adapter that PEFT's layout cannot hold."""


@dataclass(frozen=True)
class Layout:
    """Where the layers of a backbone are in the models of `transformers`.

    Args:
        block: The path of a block, with `{}` for its number.
        layers: By the path in a block of ours, the path in one of theirs.
        beside: Likewise, of layers outside of blocks.
        fused: Of layers that are one there: the path of that one, to ours in their order.
        task: What PEFT calls the model.
        transposed: Whether kernels are `[inputs, outputs]` there.
    """

    block: str
    layers: Mapping[str, str]
    beside: Mapping[str, str]
    fused: Mapping[str, tuple[str, ...]]
    task: str = "CAUSAL_LM"
    transposed: bool = False

    def theirs(self, path: str) -> tuple[str, int, int] | None:
        """Return the path of a layer there, which part of that layer it is, and of how many."""
        if (found := re.fullmatch(r"(?:transformer_layer|decoder_block)_(\d+)/(.+)", path)) is None:
            return (self.beside[path], 0, 1) if path in self.beside else None
        block = self.block.format(found[1])
        for name, parts in self.fused.items():
            if found[2] in parts:
                return f"{block}.{name}", parts.index(found[2]), len(parts)
        name = self.layers.get(found[2], "")
        return (f"{block}.{name}", 0, 1) if name else None


def _decoder(attention: str, gate: str, up: str, down: str) -> Layout:
    """Return the layout of Llama and all that took it over."""
    parts = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "attention_output": "o_proj"}
    layers = {f"{attention}/{ours}": f"self_attn.{theirs}" for ours, theirs in parts.items()}
    layers |= {gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj"}
    return Layout("model.layers.{}", layers, {}, {})


_BERT = Layout(
    "encoder.layer.{}",
    {**{f"self_attention_layer/{one}": f"attention.self.{one}"
        for one in ("query", "key", "value")},
     "self_attention_layer/attention_output": "attention.output.dense",
     "feedforward_intermediate_dense": "intermediate.dense",
     "feedforward_output_dense": "output.dense"},
    {"pooled_dense": "pooler.dense"}, {}, task="FEATURE_EXTRACTION",
)  # fmt: skip
_GPT2 = Layout(
    "transformer.h.{}",
    {"self_attention/attention_output": "attn.c_proj",
     "feedforward_intermediate_dense": "mlp.c_fc", "feedforward_output_dense": "mlp.c_proj"},
    {}, {"attn.c_attn": ("self_attention/query", "self_attention/key", "self_attention/value")},
    transposed=True,
)  # fmt: skip
_LLAMA = _decoder("self_attention", "feedforward_gate_dense", "feedforward_intermediate_dense",
                  "feedforward_output_dense")  # fmt: skip
_GEMMA = _decoder("attention", "ffw_gating", "ffw_gating_2", "ffw_linear")
LAYOUTS: Mapping[str, Layout] = {
    "BertBackbone": _BERT, "GPT2Backbone": _GPT2, "LlamaBackbone": _LLAMA,
    "Llama3Backbone": _LLAMA, "MistralBackbone": _LLAMA, "QwenBackbone": _LLAMA,
    "Qwen3Backbone": _LLAMA, "GemmaBackbone": _GEMMA,
}  # fmt: skip


def layout_of(model: keras.Model) -> Layout:
    """Return the layout of an assembled model's backbone.

    Raises:
        Unfit: If none is known.
    """
    network: Any = getattr(getattr(model, "_parts", None), "models", {}).get("network")
    network = getattr(network, "within", network)
    if (found := LAYOUTS.get(type(network).__name__)) is None:
        known = listing((name.removesuffix("Backbone") for name in LAYOUTS), len(LAYOUTS))
        raise Unfit(f"layers of a {type(network).__name__} have no known names there; those of "
                    f"{known} have")  # fmt: skip
    return found


def write(folder: Path, model: keras.Model, adaptation: Adaptation, *, base: str) -> None:
    """Write the updates of an adapted model, which are not merged yet, in PEFT's layout.

    Args:
        folder: Where the two files go.
        model: The model.
        adaptation: What adapts it.
        base: The name of the backbone.

    Raises:
        Unfit: If the layout cannot hold them.
    """
    from safetensors.numpy import save_file

    if kinds := sorted({one["kind"] for one in adaptation.records} - {"lora"}):
        raise Unfit(f"it holds low-rank updates, and this run has {listing(kinds)}")
    layout, joined = layout_of(model), _theirs(layout_of(model), adaptation)
    tensors, ranks, alphas = {}, {}, {}
    scale = adaptation.layers[0].low_rank.scale
    for path, parts in joined.items():
        first, second = _fused(parts, scale)
        tensors[f"{PREFIX}{path}.lora_A.weight"] = np.ascontiguousarray(first)
        tensors[f"{PREFIX}{path}.lora_B.weight"] = np.ascontiguousarray(second)
        ranks[path] = len(first)
        alphas[path] = scale * len(first)
    rank = min(ranks.values())
    config = {
        "peft_type": "LORA", "task_type": layout.task, "base_model_name_or_path": base, "r": rank,
        "lora_alpha": scale * rank, "lora_dropout": adaptation.records[0]["dropout"],
        "target_modules": sorted(ranks), "bias": "none", "fan_in_fan_out": layout.transposed,
        "rank_pattern": {path: one for path, one in sorted(ranks.items()) if one != rank},
        "alpha_pattern": {path: alphas[path] for path in sorted(ranks) if ranks[path] != rank},
        "inference_mode": True, "modules_to_save": None, "use_rslora": False, "use_dora": False,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    ours = " ".join(sorted(map(path_of, adaptation.layers)))
    about = {"format": "pt", DIGEST: adaptation.base, OURS: ours}
    save_file(tensors, folder / TENSORS, metadata=about)
    write_json(folder / CONFIG, config)


def write_proved(folder: Path, model: keras.Model, *, base: str) -> str:
    """Write the updates of an adapted model where the layout can hold them, and read them again.

    Args:
        folder: Where the two files go.
        model: The model, whose updates are not merged.
        base: The name of the backbone.

    Returns:
        Why it is not written; `""` where it is.

    Raises:
        ExportError: If what is read is not what the model has.
    """
    from kerasft.model.adapting import low_rank

    adaptation = adaptation_of(model)
    assert adaptation is not None
    try:
        write(folder, model, adaptation, base=base)
    except Unfit as error:
        return f"not written: {error}"
    mine = {id(layer): low_rank.delta(layer) for layer in adaptation.layers}
    with adaptation.folded():  # as plain layers, which an update can be read for
        found = read(folder, model)
    for layer, (first, second), scale in found.updates:
        wanted = mine.pop(id(layer))
        again = low_rank.in_kernel(layer, scale * (second @ first).T)
        if not np.allclose(again, wanted, atol=ROUNDING * max(1.0, float(np.abs(wanted).max()))):
            raise ExportError(f"In PEFT's layout {path_of(layer)} is not what it was.")
    if mine:
        raise ExportError(f"PEFT's layout lacks {len(mine)} of the layers.")
    return ""


def _theirs(layout: Layout, adaptation: Adaptation) -> dict[str, list[tuple[int, int, Any]]]:
    """Return the adapted layers by their path there, each with the part of it that they are."""
    joined: dict[str, list[tuple[int, int, Any]]] = {}
    for layer in adaptation.layers:
        path = path_of(layer)
        if (found := layout.theirs(path)) is None:
            raise Unfit(f"the layer {path} has an update, and no known name there")
        joined.setdefault(found[0], []).append((*found[1:], layer))
    return joined


def _matrices(layer: keras.Layer) -> Factors:
    """Return the factors of an update as `[rank, inputs]` and `[outputs, rank]`."""
    first, second = layer.lora_a.value.numpy(), layer.lora_b.value.numpy()
    rank = first.shape[-1]
    return first.reshape(-1, rank).T, second.reshape(rank, -1).T


def _fused(parts: list[tuple[int, int, Any]], scale: float) -> Factors:
    """Return one update of a layer there, of those of all our layers that it is made of."""
    made = [(part, *_matrices(layer), layer.low_rank.scale / scale) for part, _, layer in parts]
    count, size = parts[0][1], len(made[0][2])
    second, column = np.zeros((count * size, sum(len(one[1]) for one in made)), "float32"), 0
    for part, first, block, factor in made:
        rows = slice(part * size, (part + 1) * size)
        second[rows, column : column + len(first)] = np.float32(factor) * block
        column += len(first)
    return np.concatenate([one[1] for one in made]), second


@dataclass(frozen=True)
class Found:
    """What a folder in PEFT's layout says.

    Args:
        named: The base that it names.
        base: The digest of the base's weights, where kerasft wrote it; else `""`.
        dropout: The share of inputs that training drops.
        updates: The layers of a model, each with its factors and its scale.
    """

    named: str
    base: str
    dropout: float
    updates: list[tuple[Any, Factors, float]]

    def records(self) -> Iterator[tuple[dict[str, Any], list[Any]]]:
        """Yield what `adapters.lora` would record, with the layers of each rank and scale."""
        groups: dict[tuple[int, float], list[Any]] = {}
        for layer, (first, _), scale in self.updates:
            groups.setdefault((len(first), scale), []).append(layer)
        for (rank, scale), layers in groups.items():
            yield {"kind": "lora", "rank": rank, "alpha": scale * rank, "dropout": self.dropout,
                   "base": "float"}, layers  # fmt: skip

    def give(self) -> None:
        """Give the layers, which are adapted now, their factors."""
        for layer, (first, second), _ in self.updates:
            layer.lora_a.assign(first.T.reshape(layer.lora_a.shape))
            layer.lora_b.assign(second.T.reshape(layer.lora_b.shape))


def read(folder: Path, model: keras.Model) -> Found:
    """Read a folder in PEFT's layout for a model.

    Args:
        folder: The folder.
        model: The assembled model; it is left as it is.

    Raises:
        UserError: If it is damaged, holds what is none of a plain LoRA, or does not fit the model.
    """
    from kerasft.model.adapting import low_rank

    config, tensors, about = _files(folder)
    base, ours = about.get(DIGEST, ""), about.get(OURS, "").split()
    try:
        layout = layout_of(model)
    except Unfit as error:
        raise UserError(f"The adapter {str(folder)!r} cannot be read: {error}.") from error
    left, updates = dict(tensors), []
    for layer in adaptable(model):
        if (found := layout.theirs(path_of(layer))) is None:
            continue
        path, part, count = found
        factors = _of(tensors, path)
        if factors is None:
            continue
        name, first, second = factors
        left = {key: one for key, one in left.items() if not key.startswith(f"{name}.lora_")}
        if ours and path_of(layer) not in ours:
            continue
        _require_taking(layer, first, second, part, count, folder)
        size, scale = len(second) // count, _scale(config, name, len(first))
        second = second[part * size : (part + 1) * size]
        own = second.any(axis=0)
        if ours and count > 1 and own.any():  # the blocks of the others, which `write` has put in
            first, second = first[own], second[:, own]
        if len(first) > (most := low_rank.largest_rank(layer)):
            raise UserError(
                f"The adapter {str(folder)!r} has the rank {len(first)} for {path_of(layer)}, "
                f"whose smaller side is {most}."
            )
        updates.append((layer, (first, second), scale))
    named = str(config.get("base_model_name_or_path") or "")
    if left or not updates:
        strange = listing(sorted(left), 3) or "no update at all"
        raise UserError(
            f"The adapter {str(folder)!r} does not fit this backbone, no layer of which is meant "
            f"by: {strange}. Choose the backbone that it was trained on: {named or 'not named'}."
        )
    return Found(named, base, float(config.get("lora_dropout") or 0.0), updates)


def _files(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """Return the config, the tensors in `float32`, and what stands with them."""
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        with safe_open(folder / TENSORS, framework="numpy") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name).astype("float32")
                       for name in file.keys()}  # noqa: SIM118
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            raise ValueError(f"its peft_type is {config.get('peft_type')!r}, and LORA can be read")
        alphas = config.get("alpha_pattern") or {}
        for key, value, fits in (
            ("r", config.get("r"), lambda v: v >= 1),
            ("lora_alpha", config.get("lora_alpha"), lambda v: True),
            ("lora_dropout", config.get("lora_dropout") or 0.0, lambda v: 0 <= v < 1),
            *((f"alpha_pattern.{name}", one, lambda v: True) for name, one in alphas.items()),
        ):
            if not is_number(value) or not fits(value):
                raise ValueError(f"its {key} is {value!r}")
    except (AttributeError, OSError, SafetensorError, TypeError, ValueError) as error:
        raise UserError(
            f"{str(folder)!r} is no adapter in PEFT's layout, or it is damaged: {in_short(error)}. "
            f"Such a folder holds {CONFIG} and {TENSORS}."
        ) from error
    beyond = [key for key in ("use_dora", "modules_to_save", "trainable_token_indices",
                              "layer_replication", "alora_invocation_tokens")
              if config.get(key)]  # fmt: skip
    if config.get("bias", "none") != "none":
        beyond.append("bias")
    # PEFT reads them as regular expressions.
    if any(re.search(r"[^\w.]", str(key)) for key in config.get("alpha_pattern") or {}):
        beyond.append("alpha_pattern")
    if beyond:
        raise UserError(
            f"The adapter {str(folder)!r} holds more than low-rank updates: "
            f"{listing(f'{key}={config[key]!r}' for key in beyond)}. adapt=saved reads plain LoRA."
        )
    return config, tensors, about


def _of(tensors: Mapping[str, np.ndarray], path: str) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Return the factors of a layer: some models have a prefix more, or one less."""
    ends = (path, path.removeprefix("model."), path.removeprefix("transformer."))
    for name in tensors:
        module = name.removesuffix(".lora_A.weight")
        if module == name:
            continue
        own = module.removeprefix(PREFIX)
        if own in ends or own.endswith(f".{path}"):
            second = tensors.get(f"{module}.lora_B.weight")
            return None if second is None else (module, tensors[name], second)
    return None


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Return what the product of both factors is multiplied with, see `LoraConfig`."""
    alpha = float(config["lora_alpha"])
    for key, value in (config.get("alpha_pattern") or {}).items():
        if name == key or name.endswith(f".{key}"):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _require_taking(
    layer: keras.Layer, first: np.ndarray, second: np.ndarray, part: int, count: int, folder: Path
) -> None:
    """See that a layer takes an update of such sizes."""
    from kerasft.model.adapting import low_rank

    path = path_of(layer)
    if said := low_rank.objection(layer):
        raise UserError(f"The adapter {str(folder)!r} updates {path}, which takes none: {said}.")
    inputs, outputs = map(math.prod, low_rank.sides_of(layer))
    wanted = (first.shape[0], inputs), (count * outputs, first.shape[0])
    if (first.shape, second.shape) != wanted:
        raise UserError(
            f"The adapter {str(folder)!r} does not fit this backbone: of {path} it has factors of "
            f"the shapes {list(first.shape)} and {list(second.shape)}, and it takes "
            f"{list(wanted[0])} and {list(wanted[1])}."
        )
