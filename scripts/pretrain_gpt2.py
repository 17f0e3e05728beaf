#!/usr/bin/env python
r"""Pretrain a tiny GPT-2 on running text, as a KerasHub preset to fine-tune.

It has what GPT-2 has (byte-level BPE, absolute positions, one matrix for embedding and head), and a
vocabulary made of the text. Training is that of `kerasft train`, from random weights:

    python scripts/pretrain_gpt2.py --text $KERASFT_DATA/tiny_shakespeare/input.txt \
      --out pretrained/tiny_gpt2

The folder is a backbone like any other:

    kerasft train task=causal_lm data=chat \
      data.path=$KERASFT_DATA/instructions/alpaca_demo/alpaca_en_demo.json \
      'data.prompt="{instruction}\n{input}"' data.answer=output template=alpaca \
      backbone.preset=pretrained/tiny_gpt2 backbone.sequence_length=256 adapt=lora

Weights follow from --seed, the text and the options; with --minutes they hang on the machine's
speed, too: the run says which --epochs or --steps give the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<|endoftext|>"


def train_vocabulary(text: str, size: int) -> tuple[dict[str, int], list[str]]:
    """Learn a byte-level BPE (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909).

    Args:
        text: The text.
        size: How many tokens to have: all bytes, merged ones, and the one that texts end with.

    Returns:
        Tokens with their numbers, and the merges in order, as GPT-2's files have them.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    ))  # fmt: skip
    learned = json.loads(made.to_str())["model"]
    merges = [one if isinstance(one, str) else " ".join(one) for one in learned["merges"]]
    return {**learned["vocab"], END: len(learned["vocab"])}, merges


def build(options: argparse.Namespace, vocabulary: dict[str, int], merges: list[str]) -> tuple:
    """Return a GPT-2 of random weights, and its tokenizer."""
    import keras_hub

    network = keras_hub.models.GPT2Backbone(
        vocabulary_size=len(vocabulary), num_layers=options.layers, num_heads=options.heads,
        hidden_dim=options.width, intermediate_dim=4 * options.width, dropout=options.dropout,
        max_sequence_length=options.length,
    )  # fmt: skip
    return network, keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=merges)


def save(network: Any, tokenizer: Any, directory: Path) -> None:
    """Write a KerasHub preset."""
    directory.mkdir(parents=True, exist_ok=True)
    network.save_to_preset(str(directory))
    tokenizer.save_to_preset(str(directory))


def within(model: Any) -> Any:
    """Return the backbone of a trained model, plain as KerasHub made it, with its weights."""
    network = model._parts.models["network"]
    network = getattr(network, "within", network)
    plain = type(network).from_config(network.get_config())
    plain.set_weights(network.get_weights())
    return plain


def pretrain(options: argparse.Namespace, start: Path) -> Any:
    """Train the network of a preset on the text, and return what `kerasft.train` does."""
    import kerasft

    limits = [f"epochs={options.epochs}"]
    if options.minutes is not None:
        limits.append(f"budget={options.minutes}m")
    if options.steps is not None:
        limits.append(f"max_steps={options.steps}")
    return kerasft.train([
        "task=causal_lm", "data=text_files", f"data.path='{options.text}'",
        f"data.documents={options.documents}", f"data.join={options.join}",
        f"backbone.preset='{start}'", f"backbone.sequence_length={options.length}",
        "task.packing=joined", "schedule=warmup_cosine", f"optimizer.learning_rate={options.rate}",
        f"batch_size={options.batch_size}", f"seed={options.seed}", f"name={options.out.name}",
        # All layers are as new, so that none is to be held back; a budget would choose otherwise.
        "recipe=default", "finetune=full", "floor=none", *limits, *options.overrides,
    ])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="plain text, in UTF-8")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the preset")
    parser.add_argument("--documents", default="blank_line", help="see data.documents")
    parser.add_argument("--join", type=int, default=8, help="documents that make one")
    parser.add_argument("--vocabulary", type=int, default=1024, help="tokens")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="the most tokens of a text")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=20, help="at most, with --minutes")
    parser.add_argument("--minutes", type=float, help="have as many epochs as fit into the time")
    parser.add_argument("--steps", type=int, help="end after so many steps")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3, help="the peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="more of kerasft's, such as output_dir=DIR")
    options = parser.parse_args(arguments)
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"--out must be a new or empty folder. Received: {options.out}")

    import keras

    keras.utils.set_random_seed(options.seed)
    vocabulary, merges = train_vocabulary(options.text.read_text("utf-8"), options.vocabulary)
    network, tokenizer = build(options, vocabulary, merges)
    print(f"{len(vocabulary):,} tokens, {network.count_params():,} weights")
    with tempfile.TemporaryDirectory() as name:
        save(network, tokenizer, Path(name))
        result = pretrain(options, Path(name))
    save(within(result.finetuned.model), tokenizer, options.out)
    figures = {split: {name: round(value, 4) for name, value in found.items()}
               for split, found in result.metrics.items()}  # fmt: skip
    print(json.dumps(figures))
    print(f"{options.out}: {sum(p.stat().st_size for p in options.out.rglob('*')):,} bytes")


if __name__ == "__main__":
    main()
