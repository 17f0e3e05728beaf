"""Tiny random twins of the families: the same code paths in a second, and no use for results."""

from __future__ import annotations

import string
from typing import Any

from kerasft.errors import UserError
from kerasft.model.backbones import image_backbone, text_backbone
from kerasft.model.preprocess import ImagePreprocess
from kerasft.model.vision.geometry import sides
from kerasft.spec import Backbone

TEXT = ("bert", "distilbert", "roberta", "albert", "xlm_roberta", "gpt2", "llama", "mistral")
IMAGE = ("resnet", "mobilenet", "vit", "efficientnet", "densenet", "vgg")

_SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "a film that is good, bad, fine, dull, warm and cold at once",
    "pack my box with five dozen liquor jugs; how vexingly quick they are!",
    "0 1 2 3 4 5 6 7 8 9 ? . , ' - ( ) : /",
)


def text(
    family: str = "bert", *, sequence_length: int = 64, layers: int = 2, pretrained: bool = True
) -> Backbone:
    """A tiny random network for text.

    Args:
        family: One of `"bert"`, `"distilbert"`, `"roberta"`, `"albert"`, `"xlm_roberta"`,
            `"gpt2"`, `"llama"`, `"mistral"`.
        sequence_length: The most tokens of a text.
        layers: How many layers of a transformer, at least 1.
        pretrained: Accepted as with every backbone; the weights are random either way.

    Returns:
        A `Backbone`.

    Example:
        >>> text("gpt2").causal
        True
    """
    import keras_hub

    if family not in TEXT:
        raise UserError(f"backbone.family must be one of {', '.join(TEXT)}. Received: {family!r}.")
    if layers < 1:
        raise UserError(f"backbone.layers must be at least 1. Received: {layers}.")
    tokenizer = _tokenizer(family)
    size = {"num_layers": layers, "hidden_dim": 32, "intermediate_dim": 64}
    vocabulary = {"vocabulary_size": tokenizer.vocabulary_size()}
    heads, places = {"num_heads": 2}, {"max_sequence_length": max(sequence_length, 16)}
    query = {"num_query_heads": 2, "num_key_value_heads": 1}
    models = keras_hub.models
    network = {
        "bert": lambda: models.BertBackbone(**vocabulary, **heads, **size, **places),
        "distilbert": lambda: models.DistilBertBackbone(**vocabulary, **heads, **size, **places),
        "roberta": lambda: models.RobertaBackbone(**vocabulary, **heads, **size, **places),
        "albert": lambda: models.AlbertBackbone(
            **vocabulary, **heads, **size, **places, embedding_dim=16),
        "xlm_roberta": lambda: models.XLMRobertaBackbone(**vocabulary, **heads, **size, **places),
        "gpt2": lambda: models.GPT2Backbone(**vocabulary, **heads, **size, **places),
        "llama": lambda: models.LlamaBackbone(**vocabulary, **query, **size),
        "mistral": lambda: models.MistralBackbone(**vocabulary, **query, **size),
    }[family]()
    return text_backbone(
        network, tokenizer, name=f"tiny {family}", sequence_length=sequence_length, pretrained=False
    )


def image(
    family: str = "resnet", *, image_size: int | list[int] = 32, pretrained: bool = True
) -> Backbone:
    """A tiny random network for images.

    Args:
        family: One of `"resnet"`, `"mobilenet"`, `"vit"`, `"efficientnet"`, `"densenet"`, `"vgg"`.
        image_size: Height and width in pixels, one number where they are the same.
        pretrained: Accepted as with every backbone; the weights are random either way.

    Returns:
        A `Backbone`.

    Example:
        >>> image("resnet").network.input_shape
        (None, 32, 32, 3)
    """
    import keras
    import keras_hub

    if family not in IMAGE:
        raise UserError(f"backbone.family must be one of {', '.join(IMAGE)}. Received: {family!r}.")
    size = sides(image_size, None)
    shape = (*size, 3)
    models = keras_hub.models
    network = {
        "resnet": lambda: models.ResNetBackbone(
            input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1], stackwise_num_strides=[1, 2], block_type="basic_block",
            image_shape=shape),
        "mobilenet": lambda: keras.applications.MobileNetV2(
            alpha=0.35, weights=None, include_top=False, input_shape=shape),
        "vit": lambda: models.ViTBackbone(
            image_shape=shape, patch_size=size[0] // 4, num_layers=2, num_heads=2,
            hidden_dim=32, mlp_dim=64),
        "efficientnet": lambda: keras.applications.EfficientNetV2B0(
            weights=None, include_top=False, input_shape=shape, include_preprocessing=False),
        "densenet": lambda: models.DenseNetBackbone(
            stackwise_num_repeats=[1, 1], compression_ratio=0.5, growth_rate=8, image_shape=shape),
        "vgg": lambda: models.VGGBackbone(
            stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 16], image_shape=shape),
    }[family]()
    return image_backbone(
        network, ImagePreprocess(*size), scale=1 / 127.5, offset=-1.0,
        name=f"tiny {family}", pretrained=False,
    )


def _tokenizer(family: str) -> Any:
    """Make a tokenizer of the family's kind whose vocabulary covers every byte or ASCII letter."""
    from keras_hub import models

    if family in ("bert", "distilbert"):
        letters = string.ascii_lowercase + string.digits + string.punctuation
        words = sorted({w for s in _SENTENCES for w in s.split() if len(w) > 1 and w.isalpha()})
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters,
                      *(f"##{c}" for c in letters), *words]
        made = {"bert": models.BertTokenizer, "distilbert": models.DistilBertTokenizer}[family]
        return made(vocabulary=vocabulary, lowercase=True)
    if family in ("roberta", "gpt2"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if family == "roberta" else []
        tokens = [*special, *_byte_letters(), "th", "the", "in", *([] if special else
                                                                   ["<|endoftext|>"])]
        numbers = {token: i for i, token in enumerate(tokens)}
        made = models.RobertaTokenizer if special else models.GPT2Tokenizer
        return made(vocabulary=numbers, merges=["t h", "th e", "i n"])
    import io

    import sentencepiece

    pieces = {"albert": ("[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]")}.get(
        family, ("<s>", "</s>", "<pad>", "<unk>", ""))
    out = io.BytesIO()
    start, end, pad, unknown, mask = pieces
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES * 4), model_writer=out, vocab_size=96,
        model_type="unigram", hard_vocab_limit=False, minloglevel=2,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, pad_piece=pad, unk_piece=unknown, bos_piece=start,
        eos_piece=end, user_defined_symbols=[mask] if mask else [],
    )
    made = {"albert": models.AlbertTokenizer, "xlm_roberta": models.XLMRobertaTokenizer,
            "llama": models.LlamaTokenizer, "mistral": models.MistralTokenizer}[family]
    return made(proto=out.getvalue())


def _byte_letters() -> list[str]:
    """Return the 256 printable letters that byte-level BPE writes bytes with (GPT-2's table)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in kept else chr(next(spare)) for b in range(256)]
