"""A language model from its data to its export, and what goes on with texts."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import tensorflow as tf
from interruption import require_equal, stopped
from safetensors.numpy import load_file

import kerasft
from kerasft.errors import UserError

WORDS = ["the quick fox", "a lazy dog", "the good film"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A config of conversations with rules a tiny network learns."""
    folder = tmp_path_factory.mktemp("chat")
    rows = [{"q": f"say {WORDS[i % 3]} {i}", "a": WORDS[i % 3]} for i in range(60)]
    (folder / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return [
        "task=causal_lm", "head=language", "data=chat", f"data.path={folder / 'chat.jsonl'}",
        "data.prompt=q", "data.answer=a", "template=alpaca", "backbone=tiny_gpt2",
        "task.template.begin='{start}'",
        "+task.generate.max_new=8", "backbone.sequence_length=96", "batch_size=4", "epochs=2",
        "optimizer.learning_rate=0.01", "plots=false", "progress=false", "callbacks=none",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("language") / "run"
    kerasft.train([*words, f"output_dir={folder}"])
    return folder


def outcome(run):
    log = (run / "logs" / "epochs.jsonl").read_text("utf-8").splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in log]
    return rows, json.loads((run / "metrics.json").read_text("utf-8"))


@pytest.mark.slow
def test_it_trains_is_measured_and_answers(run):
    rows, metrics = outcome(run)
    assert rows[-1]["val_bits_per_byte"] < rows[0]["val_bits_per_byte"]
    assert set(metrics["test"]) == {"loss", "perplexity", "bits_per_byte", "accuracy", "end_found"}
    assert 0 <= metrics["validation"]["ended"] <= 1
    written = (run / "samples.txt").read_text("utf-8")
    assert "--- given\nuser: say" in written and written.count("--- answer") == 6
    cut = written.count("cut off")
    assert metrics["validation"]["ended"] == pytest.approx(1 - cut / 6)
    for split, again in kerasft.evaluate(str(run)).items():
        assert again == pytest.approx(metrics[split], rel=1e-5)
    lines = (run / "predictions" / "test.jsonl").read_text("utf-8").splitlines()
    assert {"nats", "tokens", "perplexity"} <= set(json.loads(lines[0])["predicted"])
    found = kerasft.predict(str(run), ["say the quick fox"], generate={"max_new": 3, "seed": 1})
    assert set(found[0]) == {"input", "text", "tokens", "stopped", "margin"}
    assert found[0]["tokens"] <= 3
    with pytest.raises(UserError, match=r"generate\.max_now is no setting.*Did you mean"):
        kerasft.predict(str(run), ["say"], generate={"max_now": 3})


@pytest.mark.slow
def test_fused_or_not_it_ends_as_the_same(words, tmp_path):
    found = {}
    for fast in ("true", "false"):
        folder = tmp_path / fast
        kerasft.train([
            *words, "backbone.family=llama", f"fast={fast}",
            f"output_dir={folder}",
        ])  # fmt: skip
        rows, metrics = outcome(folder)
        found[fast] = [{name: value for name, value in row.items() if isinstance(value, float)}
                       for row in (*rows, metrics["test"])]  # fmt: skip
    assert "val_bits_per_byte" in found["true"][0]
    for one, other in zip(found["true"], found["false"], strict=True):
        assert one == pytest.approx(other, rel=2e-3)


@pytest.mark.slow
def test_its_export_is_proved_and_writes_the_same(run, tmp_path, kerasft_cli):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    kerasft.export(str(folder))
    export = folder / "exports" / "saved_model"
    extra = export / "1" / "assets.extra"
    parity = json.loads((extra / "parity.json").read_text("utf-8"))
    assert parity["passed"]
    assert set(parity["signatures"]) == {
        "serving_default", "tensors", "generate", "score", "next", "embed",
    }  # fmt: skip
    asked = ["say a lazy dog 7", "hello", ""]
    here, there = kerasft.predict(str(folder), asked), kerasft.predict(str(export), asked)
    assert [one["text"] for one in here] == [one["text"] for one in there]
    golden = json.loads((extra / "golden.json").read_text("utf-8"))["requests"]
    assert {one["signature_name"] for one in golden} >= {"generate", "score", "next"}
    first = next(one for one in golden if one["signature_name"] == "next")["outputs"]
    assert len(first["next_ids"][0]) == 5 and len(first["next_logits"][0]) == 6
    assert sorted(first["next_logits"][0], reverse=True) == first["next_logits"][0]
    verified = kerasft_cli("verify", str(export))
    assert verified.code == 0, verified.out + verified.err
    with pytest.raises(UserError, match="writes as it was exported"):
        kerasft.predict(str(export), asked, generate={"seed": 1})


@pytest.mark.slow
def test_an_export_that_draws_takes_a_seed_for_each_text(words, tmp_path, kerasft_cli):
    run = tmp_path / "run"
    drawing = ["+task.generate.temperature=1.2", "export.saved_model.signatures=[sample]"]
    kerasft.train([*words, *drawing, "epochs=1", "export=saved_model", f"output_dir={run}"])
    export = run / "exports" / "saved_model"
    parity = json.loads((export / "1" / "assets.extra" / "parity.json").read_text("utf-8"))
    assert parity["passed"] and set(parity["signatures"]) == {"serving_default", "sample"}
    sample = tf.saved_model.load(str(export / "1")).signatures["sample"]
    text = kerasft.predict(str(run), ["hello"], generate={"seed": 5})[0]["text"]
    found = sample(text=tf.constant(["hello"] * 3), seed=tf.constant([5, 6, 5], tf.int64))
    one, other, same = found["text"].numpy().tolist()
    assert text == one.decode("utf-8", "replace") and one == same != other
    assert kerasft_cli("verify", str(export)).code == 0


@pytest.mark.slow
def test_what_is_not_drawn_takes_no_seeds(words, tmp_path):
    with pytest.raises(UserError, match=r"no signature 'sample'.*temperature is above 0"):
        kerasft.train([*words, "export=saved_model", "export.saved_model.signatures=[sample]",
                       f"output_dir={tmp_path / 'run'}"])  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("more", [["adapt=lora", "optimizer.gradient_accumulation_steps=2"], []])
def test_a_run_that_is_stopped_ends_as_one_that_was_not(words, more, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*words, *more, "checkpoint.steps=2", "precision=mixed_bfloat16", "batch_size=2",
             "backbone.sequence_length=256"]  # fmt: skip
    kerasft.train([*words, "output_dir=whole"])
    texts, blocks = map(int, re.findall(r"packing: (\d+) texts in (\d+) blocks",
                                        capsys.readouterr().out)[0])  # fmt: skip
    assert 2 * blocks < texts
    stopped([*words, "output_dir=again"], monkeypatch, 1)
    kerasft.resume("again")
    assert outcome(tmp_path / "again") == outcome(tmp_path / "whole")
    require_equal(tmp_path / "again", tmp_path / "whole")


@pytest.mark.slow
def test_an_adapter_is_exported_alone_and_refused_on_another_base(words, tmp_path):
    run = tmp_path / "run"
    kerasft.train([*words, "adapt=lora", "epochs=1", "export=adapter", f"output_dir={run}"])
    folder = run / "exports" / "adapter"
    tensors = load_file(folder / "peft" / "adapter_model.safetensors")
    assert "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight" in tensors
    about = json.loads((folder / "adapter.json").read_text("utf-8"))
    assert about["peft"] == "peft/" and len(about["base_sha256"]) == 64
    for path in (folder, folder / "peft"):
        with pytest.raises(UserError, match=r"belongs to other weights: it was trained on tiny gp"):
            kerasft.train([*words, "adapt=saved", f"adapt.saved.path={path}", "seed=1",
                           f"output_dir={tmp_path / path.name}"])  # fmt: skip


@pytest.mark.slow
def test_a_preset_holds_the_adapter_and_a_family_that_cannot_be_written_is_told(words, tmp_path):
    import keras_hub

    run = tmp_path / "run"
    kerasft.train([*words, "adapt=lora", "epochs=1", "export=preset", f"output_dir={run}"])
    folder = run / "exports" / "preset"
    parity = json.loads((folder / "parity.json").read_text("utf-8"))
    assert parity["task"] == "keras_hub.models.CausalLM"
    assert parity["largest_difference"]["last_logits"] < 1e-4
    loaded = keras_hub.models.CausalLM.from_preset(str(folder))
    assert not [one.path for one in loaded.variables if "lora" in one.path]
    with pytest.raises(UserError, match="inner layers four times as wide"):
        kerasft.export(str(run), ["export=transformers"])
    again = tmp_path / "again"
    for more in ([], ["surgery=cut", "surgery.cut.layer=transformer_layer_0"]):
        with pytest.raises(UserError, match=r"export=transformers"):
            kerasft.train([*words, *more, "export=transformers", f"output_dir={again}"])
        assert not (again / "logs" / "epochs.jsonl").exists()


@pytest.mark.slow
def test_examples_are_shown_with_their_answers_marked(words, capsys):
    kerasft.show([*words, "task.packing=none"], count=2)
    said = capsys.readouterr().out
    assert "tokens learned" in said and "[[" in said


@pytest.mark.slow
def test_a_tied_embedding_is_frozen_and_cut_off(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))
    upper = [*words, "task.packing=none", "finetune.full.train=[transformer_layer_1]"]
    found = []
    for activations in ("always", "never"):
        run = tmp_path / activations
        kerasft.train([*upper, f"cache.activations={activations}", f"output_dir={run}"])
        said = capsys.readouterr().out
        assert ("at the output of" in said) == (activations == "always"), said
        assert re.search(r"token_embedding +8,320 +0 ", said)
        rows, metrics = outcome(run)
        found.append(metrics["test"])
        assert rows[-1]["val_loss"] < rows[0]["val_loss"]
        assert kerasft.evaluate(str(run), split="test")["test"] == pytest.approx(
            metrics["test"], rel=1e-5
        )
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@pytest.mark.slow
def test_a_sweep_of_four_is_ranked(words, kerasft_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rest = [word for word in words if not word.startswith("optimizer")]
    done = kerasft_cli("sweep", *rest, "output_dir=s", "sweep=grid", "launcher.name=basic",
                       "optimizer.learning_rate=1e-2,1e-3,1e-4,1e-6", "epochs=1")  # fmt: skip
    assert done.code == 0, done.err
    assert "4 done, 0 pruned, 0 failed" in done.out
    (tested,) = json.loads((tmp_path / "s/test.json").read_text("utf-8"))["trials"]
    assert tested["trial"] == 0 and tested["metrics"]["bits_per_byte"] > 0
    board = kerasft_cli("leaderboard", "s", "--metric", "perplexity")
    assert board.code == 0, board.err
    ranked = re.findall(r"^ +\d+ +(\d) +([\d.e-]+) +[\d.]+ ", board.out, re.MULTILINE)
    assert [number for number, _ in ranked] == ["0", "1", "2", "3"], board.out
    assert "The best of 4 was chosen" in board.out
