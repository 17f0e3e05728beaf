#!/usr/bin/env python
"""What `export=transformers` writes, held against the `transformers` package itself.

Two steps, the first in kerasft's environment, the second in one with torch and transformers:

    python benchmarks/peers/transformers_export.py keras DIR
    python benchmarks/peers/transformers_export.py check DIR

`keras` writes tiny random networks of KerasHub as the export does, and their logits; `check` has
transformers load each, and prints the largest difference of logits.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

IDS = np.array([[3, 7, 12, 5, 9, 4, 8, 2], [6, 6, 1, 10, 11, 13, 3, 5]], "int32")
SIZE = {"num_layers": 2, "hidden_dim": 32, "intermediate_dim": 128}
GROUPED = {**SIZE, "num_query_heads": 2, "num_key_value_heads": 1}
WORDS = ["the quick brown fox jumps over the lazy dog", "a film that is good, bad, fine or dull"]


def networks() -> Iterator[tuple[str, Any, Any]]:
    """Yield tiny networks of KerasHub by family, with tokenizers."""
    import sentencepiece
    from keras_hub import models

    def pieces(*own: str, first: str = "<s> </s>") -> bytes:
        start, end = first.split()
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(WORDS * 8), model_writer=out, vocab_size=60, minloglevel=2,
            hard_vocab_limit=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
            bos_piece=start, eos_piece=end, user_defined_symbols=list(own),
        )  # fmt: skip
        return out.getvalue()

    def letters(*own: str) -> dict[str, Any]:
        kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
        spare = iter(range(256, 512))
        tokens = [chr(b) if b in kept else chr(next(spare)) for b in range(256)]
        tokens += ["th", "the", *own]
        return {"vocabulary": {one: i for i, one in enumerate(tokens)},
                "merges": ["t h", "th e"]}  # fmt: skip

    turns = ("<start_of_turn>", "<end_of_turn>")
    images = (*turns, "<start_of_image>", "<end_of_image>", "<img>")
    gemma = pieces(*turns, first="<bos> <eos>")
    gemma3 = pieces(*images, first="<bos> <eos>")
    of_llama = letters("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
                       "<|end_header_id|>", "<|eot_id|>")  # fmt: skip
    for name, tokenizer, network in (
        ("gpt2", models.GPT2Tokenizer(**letters("<|endoftext|>")), lambda size: models.GPT2Backbone(
            vocabulary_size=size, num_heads=2, max_sequence_length=32, **SIZE)),
        ("llama3", models.Llama3Tokenizer(**of_llama), lambda size: models.Llama3Backbone(
            vocabulary_size=size, **GROUPED)),
        ("llama3 tied", models.Llama3Tokenizer(**of_llama), lambda size: models.Llama3Backbone(
            vocabulary_size=size, tie_word_embeddings=True, **GROUPED)),
        ("mistral", models.MistralTokenizer(proto=pieces()), lambda size: models.MistralBackbone(
            vocabulary_size=size, **GROUPED)),
        ("gemma", models.GemmaTokenizer(proto=gemma), lambda size: models.GemmaBackbone(
            vocabulary_size=size, head_dim=16, **GROUPED)),
        ("gemma3", models.Gemma3Tokenizer(proto=gemma3), lambda size: models.Gemma3Backbone(
            vocabulary_size=size, head_dim=16, image_size=None, vision_encoder=None,
            use_query_key_norm=True, use_post_attention_norm=True, use_post_ffw_norm=True,
            **GROUPED)),
        ("qwen", models.QwenTokenizer(**letters("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
         lambda size: models.QwenBackbone(vocabulary_size=size, **GROUPED)),
    ):  # fmt: skip
        yield name, network(tokenizer.vocabulary_size()), tokenizer


def write(folder: Path) -> None:
    """Write each network as the export does, and its logits."""
    import keras_hub

    from kerasft.exporters.hub_parts import of_backbone

    random = np.random.default_rng(0)
    for name, network, tokenizer in networks():
        for variable in network.weights:
            variable.assign(variable.numpy() + random.normal(size=variable.shape) * 0.05)
        before = of_backbone(keras_hub.models.CausalLMPreprocessor, type(network))(tokenizer)
        made = of_backbone(keras_hub.models.CausalLM, type(network))(network, before)
        made.export_to_transformers(str(folder / name))
        logits = made({"token_ids": IDS, "padding_mask": np.ones_like(IDS)})
        np.save(folder / name / "logits.npy", np.asarray(logits))


def check(folder: Path) -> None:
    """Print how far transformers' logits are apart."""
    import torch
    from transformers import AutoModelForCausalLM

    for one in sorted(folder.glob("*/logits.npy")):
        model = AutoModelForCausalLM.from_pretrained(one.parent).eval()
        with torch.no_grad():
            found = model(torch.tensor(IDS).long()).logits.float().numpy()
        print(f"{one.parent.name}: {np.abs(found - np.load(one)).max():.2g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("keras", "check"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    {"keras": write, "check": check}[chosen.step](chosen.folder)
