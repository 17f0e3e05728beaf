"""Language models for KerasHub and for Hugging Face's transformers."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from other_weights import shifted
from safetensors.numpy import load_file

from kerasft.artifact.fresh import ExportError
from kerasft.errors import UserError
from kerasft.exporters import hugging_face, language_task
from kerasft.exporters import preset as module
from kerasft.exporters.hugging_face import transformers
from kerasft.exporters.preset import preset
from kerasft.model import tiny
from kerasft.model.assemble import assemble
from kerasft.model.heads.language import tied
from kerasft.model.text.language import conversation
from kerasft.spec import Backbone, Labels
from kerasft.tasks.causal_lm import CausalLM
from kerasft.tasks.classification import Classification
from kerasft.tasks.reading import prepared

TEXTS = ["the quick brown fox jumps over the lazy dog", "a film that is good", "pack my box", "x"]
TEMPLATE = {"begin": "{start}", "user": "Q: {content}\n", "assistant": "A: {content}{end}\n"}
TALKS = [conversation([("user", one), ("assistant", "fine")]) for one in TEXTS]


def gemma() -> Backbone:
    """A tiny Gemma, with a vocabulary that has Gemma's own tokens."""
    import io

    import keras_hub
    import sentencepiece

    from kerasft.model.backbones import text_backbone

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 8), model_writer=out, vocab_size=60, model_type="unigram",
        hard_vocab_limit=False, minloglevel=2, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece="<pad>", unk_piece="<unk>", bos_piece="<bos>", eos_piece="<eos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>"],
    )  # fmt: skip
    tokenizer = keras_hub.models.GemmaTokenizer(proto=out.getvalue())
    network = keras_hub.models.GemmaBackbone(
        vocabulary_size=tokenizer.vocabulary_size(), num_layers=2, num_query_heads=2,
        num_key_value_heads=1, hidden_dim=32, intermediate_dim=64, head_dim=16,
    )  # fmt: skip
    return text_backbone(network, tokenizer, name="tiny gemma", sequence_length=32,
                         pretrained=False)  # fmt: skip


def gpt2() -> Backbone:
    """A tiny GPT-2 whose inner layers are four times as wide, as in all checkpoints."""
    backbone = tiny.text("gpt2", sequence_length=32)
    config = {**backbone.network.get_config(), "intermediate_dim": 128}
    return dataclasses.replace(backbone, network=type(backbone.network).from_config(config))


def made(family="gpt2", template=None, packing="isolated"):
    """Return what an export takes of a language model."""
    keras.utils.set_random_seed(1)
    own = {"gemma": gemma, "gpt2": gpt2}
    backbone = own[family]() if family in own else tiny.text(family, sequence_length=32)
    backbone = prepared(backbone, template, "answers", apart=packing == "isolated")
    model = assemble(backbone, tied)
    for variable in model.trainable_variables:  # a fresh network says the same again and again
        variable.assign(variable + 0.4 * keras.random.normal(variable.shape, seed=5))
    task = CausalLM(template=template, packing=packing)
    return {"model": model, "preprocess": backbone.preprocess, "task": task,
            "labels": Labels("language"), "examples": TALKS if template else TEXTS}  # fmt: skip


def parity(folder):
    return json.loads((folder / "parity.json").read_text("utf-8"))


def logits(given, texts):
    """Return the tokens of texts, and what the network in memory scores there."""
    from kerasft.model.text.generation import read_off

    features, embedding = read_off(given["model"])
    inputs = given["preprocess"](tf.constant(texts))
    found = keras.Function(given["model"].input, features)(inputs)
    return inputs, np.asarray(embedding(found, reverse=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "gemma"])
def test_a_preset_is_kerashubs_own_language_model(family, tmp_path):
    import keras_hub

    given = made(family)
    folder = preset(directory=tmp_path / "p", **given)
    report = parity(folder)
    assert report["task"] == "keras_hub.models.CausalLM" and report["prompts"] == "texts"
    assert report["largest_difference"]["last_logits"] < 1e-5
    assert report["largest_difference"]["nats"] < 1e-5
    assert report["greedy"] == {"texts": 4, "tokens": report["greedy"]["tokens"], "other": 0,
                                "near_ties": 0}  # fmt: skip
    assert report["greedy"]["tokens"] > 16
    model = keras_hub.models.CausalLM.from_preset(str(folder))
    inputs, expected = logits(given, TEXTS[:2])
    real = np.asarray(inputs["padding_mask"], bool)
    np.testing.assert_allclose(np.asarray(model(inputs))[real], expected[real], atol=1e-4)
    facts = json.loads((folder / "preprocessing.json").read_text("utf-8"))
    assert facts["outputs"]["logits"]["shape"][2] == model.backbone.vocabulary_size
    assert facts["decision"]["stops"] == given["preprocess"].stops
    assert "assets/tokenizer" in facts["tokenizer"]["files"][0]


@pytest.mark.slow
def test_the_readme_of_a_preset_writes_the_same_text(tmp_path):
    given = made("llama")
    folder = preset(directory=tmp_path / "p", **given)
    code = (folder / "README.md").read_text("utf-8").split("```")[1].removeprefix("python\n")
    said = code.replace("Once upon a time", "the quick").replace("max_length=64", "max_length=16")
    script = f"import sys\nsys.modules['kerasft'] = None\n{said}"
    script = script.replace("model.generate", "print(ascii(model.generate") + ")" * 2
    script = script.replace("\n))", "))")
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    ours = given["task"].generating({"max_new": 12}).write(
        given["model"], given["preprocess"], ["the quick"]
    )
    written = eval(done.stdout.strip().splitlines()[-1])
    assert written.startswith("the quick")
    assert written.removeprefix("the quick").startswith(ours["text"][0].decode()[:4])


@pytest.mark.slow
def test_conversations_are_made_of_tokens(tmp_path):
    given = made("gpt2", template=TEMPLATE)
    folder = preset(directory=tmp_path / "p", **given)
    assert parity(folder)["prompts"] == "tokens: KerasHub knows no templates"
    assert parity(folder)["greedy"]["other"] == 0
    facts = json.loads((folder / "preprocessing.json").read_text("utf-8"))
    assert facts["template"] == TEMPLATE and facts["layout"][0].startswith("template")
    assert "model.preprocessor = None" in (folder / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_the_embedding_that_llama_ties_comes_back_tied(tmp_path):
    import keras_hub

    given = made("llama")
    before = given["model"]._parts.models["network"].within
    config = {**before.get_config(), "tie_word_embeddings": True}
    network = type(before).from_config(config)
    backbone = tiny.text("llama", sequence_length=32)
    backbone = prepared(dataclasses.replace(backbone, network=network), None, "answers", apart=True)
    given |= {"model": assemble(backbone, tied), "preprocess": backbone.preprocess}
    folder = preset(directory=tmp_path / "p", **given)
    loaded = keras_hub.models.CausalLM.from_preset(str(folder))
    assert loaded.backbone.token_embedding.tie_weights


@pytest.mark.slow
def test_other_weights_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(language_task, "twin", shifted(language_task.twin))
    with pytest.raises(ExportError, match=r"last_logits differs by"):
        preset(directory=tmp_path / "p", **made())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "gemma", "mistral"])
def test_what_transformers_reads_holds_the_same_weights(family, tmp_path):
    given = made(family)
    folder = transformers(directory=tmp_path / "t", **given)
    report = parity(folder)
    assert report["greedy"]["other"] == report["greedy"]["near_ties"]
    assert report["largest_difference"]["last_logits"] < (1e-2 if family == "mistral" else 1e-5)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"][0].endswith(("ForCausalLM", "LMHeadModel"))
    assert config["eos_token_id"] == given["preprocess"].end
    tensors = load_file(folder / "model.safetensors")
    network = given["model"]._parts.models["network"].within
    embedding = next(value for key, value in tensors.items() if "wte" in key or "embed_tok" in key)
    np.testing.assert_array_equal(embedding, network.token_embedding.embeddings)
    # Each weight is there, whatever its shape and place.
    tied_twice = "lm_head.weight" in tensors and family == "gpt2"
    count = sum(one.size for one in tensors.values()) - tied_twice * embedding.size
    assert count == network.count_params()
    norms = sorted(value.sum() for value in tensors.values())
    assert np.isclose(sum(norms) - tied_twice * embedding.sum(),
                      sum(np.sum(one) for one in network.get_weights()), rtol=1e-3)  # fmt: skip
    facts = json.loads((folder / "preprocessing.json").read_text("utf-8"))
    assert facts["tokenizer"]["files"][0] in ("vocab.json", "tokenizer.model")


def test_families_that_kerashub_does_not_write_are_refused():
    network = tiny.text("llama", layers=1).network
    with pytest.raises(UserError, match=r"does not write Llama .*It writes Gemma, .*GPT2"):
        hugging_face.check_network(network=network, task=CausalLM())
    network = tiny.text("gpt2", layers=1).network
    with pytest.raises(UserError, match=r"inner layers four times as wide.*of width 32 with 64"):
        hugging_face.check_network(network=network, task=CausalLM())
    network = tiny.text("bert", layers=1).network
    with pytest.raises(UserError, match=r"no class of language models for BertBackbone"):
        module.check_network(network=network, task=CausalLM())
    with pytest.raises(UserError, match=r"language models alone.*Received: Classification"):
        hugging_face.check_early(task=Classification())
