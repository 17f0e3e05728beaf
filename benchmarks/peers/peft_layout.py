#!/usr/bin/env python
"""Adapters in PEFT's layout, held against the `peft` package itself, both ways.

Three steps, the first and the last in an environment with torch, transformers and peft, the second
in kerasft's:

    python benchmarks/peers/peft_layout.py make DIR
    python benchmarks/peers/peft_layout.py keras DIR
    python benchmarks/peers/peft_layout.py check DIR

`make` writes tiny random networks of transformers, an adapter of peft on each, and what both give.
`keras` loads the same networks through KerasHub, with peft's adapter on them, and writes one of its
own; `check` has peft load that, and prints the largest difference of hidden states for each way.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

IDS = np.array([[3, 7, 12, 5, 9, 4, 8, 2], [6, 6, 1, 10, 11, 13, 3, 5]], "int64")
SIZE = {"vocab_size": 32, "num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24,
        "num_attention_heads": 2}  # fmt: skip
GROUPED = {**SIZE, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
# What of each family gets an update.
TARGETS = {
    "bert": ["query", "value", "output.dense"],
    "gpt2": ["c_attn", "mlp.c_proj"],
    "llama": ["q_proj", "v_proj", "o_proj", "down_proj"],
    "mistral": ["q_proj", "k_proj", "gate_proj"],
    "qwen2": ["q_proj", "v_proj", "up_proj"],
    "gemma": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def networks() -> dict:
    """Return tiny networks of transformers, by family."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    return {
        # KerasHub's BERT has this GELU alone; transformers' default is another one, 4e-4 apart.
        "bert": t.BertModel(t.BertConfig(
            **SIZE, max_position_embeddings=64, hidden_act="gelu_new")),
        "gpt2": t.GPT2LMHeadModel(t.GPT2Config(
            vocab_size=32, n_layer=2, n_embd=16, n_head=2, n_positions=64,
            bos_token_id=1, eos_token_id=1)),
        "llama": t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
        "mistral": t.MistralForCausalLM(t.MistralConfig(**GROUPED, sliding_window=64)),
        "qwen2": t.Qwen2ForCausalLM(t.Qwen2Config(**GROUPED, tie_word_embeddings=True)),
        "gemma": t.GemmaForCausalLM(t.GemmaConfig(**GROUPED)),
    }  # fmt: skip


def hidden(model) -> np.ndarray:
    """Return the hidden states of the last layer, behind its norm."""
    import torch

    model.eval()
    with torch.no_grad():
        return model(torch.tensor(IDS), output_hidden_states=True).hidden_states[-1].numpy()


def make(root: Path) -> None:
    import peft
    import torch

    for family, model in networks().items():
        folder = root / family
        with torch.no_grad():  # biases and norms begin at numbers that hide mistakes
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
                if family == "mistral":  # KerasHub 0.32 reads its weights so, whatever they are
                    weight.copy_(weight.half())
        model.save_pretrained(folder / "base")
        np.save(folder / "base.npy", hidden(model))
        task = "FEATURE_EXTRACTION" if family == "bert" else "CAUSAL_LM"
        adapted = peft.get_peft_model(model, peft.LoraConfig(
            r=3, lora_alpha=6, target_modules=TARGETS[family], task_type=task,
            fan_in_fan_out=family == "gpt2", rank_pattern={r"layers.1.self_attn.q_proj": 2}))
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_" in name:
                    weight.copy_(0.3 * torch.randn_like(weight))
        adapted.save_pretrained(folder / "theirs")
        np.save(folder / "theirs.npy", hidden(adapted))


def in_keras(root: Path) -> None:
    import keras
    import keras_hub

    from kerasft.model import adapters
    from kerasft.model.adapting import peft_layout
    from kerasft.model.adapting.adaptation import adaptation_of
    from kerasft.model.layers import Assembled

    def loaded(folder: Path):
        network = keras_hub.models.Backbone.from_preset(str(folder / "base"))
        output = network.output
        output = output["sequence_output"] if isinstance(output, dict) else output
        return Assembled(network, keras.layers.Identity(name="head_nothing")(output))

    def states(model) -> np.ndarray:
        given = {"token_ids": IDS, "padding_mask": np.ones_like(IDS),
                 "segment_ids": np.zeros_like(IDS)}  # fmt: skip
        return np.asarray(model({name: given[name] for name in model.input}, training=False))

    for folder in sorted(one for one in root.iterdir() if one.is_dir()):
        model = loaded(folder)
        without = np.abs(states(model) - np.load(folder / "base.npy")).max()
        adapters.saved(model, path=str(folder / "theirs"))
        read = np.abs(states(model) - np.load(folder / "theirs.npy")).max()
        model = adapters.lora(loaded(folder), rank=2, alpha=8.0)
        draw = np.random.default_rng(0)
        for layer in adaptation_of(model).layers:
            for factor in (layer.lora_a, layer.lora_b):
                factor.assign(0.3 * draw.normal(size=factor.shape))
        peft_layout.write(folder / "ours", model, adaptation_of(model), base=str(folder / "base"))
        np.save(folder / "ours.npy", states(model))
        said = {"base": float(without), "read": float(read)}
        (folder / "read.json").write_text(json.dumps(said), "utf-8")
        print(folder.name, said, flush=True)


def check(root: Path) -> None:
    import peft

    print(f"{'':10}{'base':>10}{'read':>10}{'written':>10}{'effect':>10}")
    worst = 0.0
    for family, model in networks().items():
        folder = root / family
        base = type(model).from_pretrained(folder / "base")
        adapted = peft.PeftModel.from_pretrained(base, str(folder / "ours"))
        found = hidden(adapted)
        said = json.loads((folder / "read.json").read_text("utf-8"))
        written = float(np.abs(found - np.load(folder / "ours.npy")).max())
        effect = float(np.abs(found - np.load(folder / "base.npy")).max())
        print(f"{family:10}{said['base']:10.2g}{said['read']:10.2g}{written:10.2g}{effect:10.2g}")
        worst = max(worst, said["base"], said["read"], written)
    if worst > 1e-4:
        raise SystemExit(f"they differ by {worst:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "keras", "check"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    {"make": make, "keras": in_keras, "check": check}[options.step](options.folder)


if __name__ == "__main__":
    main()
