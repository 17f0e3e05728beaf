"""Each check of `kerasft verify` passes on a sound export, and fails on one that was spoiled."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import kerasft
from kerasft.artifact.comparison import Output
from kerasft.artifact.digests import digests
from kerasft.artifact.golden import Golden
from kerasft.serving import c_loader, ops
from kerasft.serving import verify as verify_module
from kerasft.serving.verify import CHECKS, Export, _compared, verify

EXTRA, WARMUP = "assets.extra", "tf_serving_warmup_requests"


@pytest.fixture
def sound(tiny_text_export):
    return tiny_text_export / "1"


@pytest.fixture
def copy(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "1")


def change(copy, file, edit):
    """Change a JSON file of an artifact."""
    path = copy / EXTRA / file
    value = json.loads(path.read_text("utf-8"))
    edit(value)
    path.write_text(json.dumps(value), "utf-8")


def graph(copy, edit):
    """Change the graph of an artifact."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = copy / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    edit(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())


def warm_up(copy, edit):
    """Change the warm-up requests of an artifact."""
    path = str(copy / EXTRA / WARMUP)
    logs = edit([record.numpy() for record in tf.data.TFRecordDataset(path)])
    with tf.io.TFRecordWriter(path) as writer:
        for log in logs:
            writer.write(log)


def found_by(name, copy):
    """Return what one check says."""
    from kerasft.errors import UserError

    try:
        return list(CHECKS[name](Export(copy)))
    except UserError as error:
        return [("FAILED", "; ".join(error.problems))]


@pytest.mark.slow
@pytest.mark.parametrize("run", [
    "tiny_text_run", pytest.param("tiny_run", marks=pytest.mark.slow),
    pytest.param("tiny_pair_run", marks=pytest.mark.slow),
    pytest.param("tiny_multi_label_run", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_sound_export_passes_every_check(run, request, tmp_path):
    if run == "tiny_text_run":
        place = request.getfixturevalue("sound").parent
    else:
        place = tmp_path / "sound"
        folder = request.getfixturevalue(run)
        kerasft.export(str(folder), [f"export.saved_model.directory={place}"])
    found = {one.check: one for one in verify(place)}
    assert list(found) == list(CHECKS)
    expected = dict.fromkeys(CHECKS, "ok")
    if c_loader.shutil.which("cc") is None:
        expected["C API"] = "skipped"
    assert {name: one.result for name, one in found.items()} == expected, found
    assert "20 golden requests" in found["replay"].words
    assert found["warm-up"].words == "16 requests, replayed on the graph"
    assert f"known to the installed TensorFlow {tf.__version__}" in found["operations"].words
    assert ("of them TensorFlow Text's" in found["operations"].words) == (run != "tiny_run")
    assert "batch 1: " in found["speed"].words


SPOILED = {
    "a missing file": ("files", lambda c: (c / EXTRA / "golden.json").unlink(),
                       "golden.json is missing"),
    "no card": ("files", lambda c: (c / "README.md").unlink(), "README.md is missing"),
    "warm-up requests that are none": (
        "warm-up", lambda c: (c / EXTRA / WARMUP).write_bytes(b"x" * 40), "cannot be read"),
    "a warm-up request of no signature": (
        "warm-up", lambda c: warm_up(c, lambda logs: [
            log.replace(b"tensors", b"tensorz") for log in logs]),
        'signature name: "tensorz" not found'),
    "too many warm-up requests": (
        "warm-up", lambda c: warm_up(c, lambda logs: logs * 100), "1,600 requests, of which"),
    "no number": ("files", lambda c: c.rename(c.parent / "one"), "is no number"),
    "other labels": ("files", lambda c: (c / EXTRA / "labels.txt").write_text("pos\nneg\n"),
                     "list other labels"),
    "too many labels": (
        "files", lambda c: change(c, "signature.json", lambda s: s["labels"].append("more")),
        "serving_default gives 2 values of probabilities for 3 labels"),
    "a proof that failed": (
        "proof", lambda c: change(c, "parity.json", lambda p: p.update(passed=False)),
        "did not pass"),
    "no proof": ("proof", lambda c: (c / EXTRA / "parity.json").unlink(), "parity.json"),
    "another graph": ("proof", lambda c: graph(c, lambda g: g.meta_info_def.tags.append("x")),
                      "changed since it was proved: saved_model.pb"),
    "a signature that is not told": (
        "signatures",
        lambda c: change(c, "signature.json", lambda s: s["signatures"].pop("embed")),
        "embed is there and not told"),
    "a signature that is not there": (
        "signatures", lambda c: graph(c, lambda g: g.signature_def.pop("embed")),
        "embed is told and not there"),
    "another method": (
        "signatures",
        lambda c: graph(c, lambda g: setattr(
            g.signature_def["classify"], "method_name", "tensorflow/serving/predict")),
        "classify answers predict, not classify"),
    "another type": (
        "signatures",
        lambda c: graph(c, lambda g: setattr(
            g.signature_def["embed"].outputs["embedding"], "dtype", 14)),
        "embedding is bfloat16"),
    "a fixed batch": (
        "signatures",
        lambda c: graph(c, lambda g: setattr(
            g.signature_def["embed"].inputs["text"].tensor_shape.dim[0], "size", 1)),
        "text has no batch of any size"),
    "Python in the graph": (
        "operations", lambda c: graph(c, lambda g: g.graph_def.node.add(name="p", op="PyFunc")),
        "does not have PyFunc"),
    "an operation that nobody knows": (
        "operations",
        lambda c: graph(c, lambda g: g.graph_def.library.function[0].node_def.add(
            name="p", op="Addons>Gelu")),
        "does not have Addons>Gelu"),
    "no graph": ("operations", lambda c: (c / "saved_model.pb").write_bytes(b"\xff\xff"),
                 "saved_model.pb cannot be read"),
    "another answer": (
        "replay",
        lambda c: change(c, "golden.json", lambda g: g["requests"][0]["outputs"].update(
            score=[0.123])),
        "score differs by"),
    "another label": (
        "replay",
        lambda c: change(c, "golden.json", lambda g: g["requests"][0]["outputs"].update(
            label=["other"])),
        "label differs by 1"),
    "golden requests that are none": (
        "replay", lambda c: change(c, "golden.json", lambda g: g.update(requests=[3])),
        "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", [
    # These two load the export and ask it.
    pytest.param(case, marks=[pytest.mark.slow] * (case in ("another answer", "another label")))
    for case in SPOILED
])  # fmt: skip
def test_what_was_spoiled_is_found(case, copy):
    check, spoil, words = SPOILED[case]
    spoil(copy)
    place = copy if copy.exists() else copy.parent / "one"
    ((result, said), *_) = found_by(check, place)
    assert result == "FAILED"
    assert words in said


def test_which_outputs_have_a_value_for_each_label_is_the_tasks_word(copy):
    def shaped(width, **rule):
        def edit(signature):
            outputs = signature["signatures"]["tensors"]["outputs"]
            outputs["probabilities"]["shape"] = [None, width]
            signature["compare"]["probabilities"] = {"rule": "close", **rule}
        return edit

    # Seven numbers of something else are as good as two of labels.
    change(copy, "signature.json", shaped(7))
    assert found_by("files", copy) == [("ok", "version 1, 2 labels")]
    change(copy, "signature.json", shaped(7, each=True))
    assert found_by("files", copy) == [
        ("FAILED", "tensors gives 7 values of probabilities for 2 labels"),
    ]

    def renamed(signature):
        signature["compare"]["shares"] = {"rule": "close", "each": True}
        outputs = signature["signatures"]["serving_default"]["outputs"]
        outputs["shares"] = outputs.pop("probabilities") | {"shape": [None, 3]}

    change(copy, "signature.json", renamed)
    assert found_by("files", copy) == [(
        "FAILED", "serving_default gives 3 values of shares for 2 labels; "
        "tensors gives 7 values of probabilities for 2 labels",
    )]  # fmt: skip


@pytest.mark.slow
def test_changed_weights_are_found_by_every_loader(copy):
    data = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    weights = np.frombuffer(content, np.float32, 5000)  # the rest may hold other things
    content[: weights.nbytes] = (weights * 1.5).astype(np.float32).tobytes()
    data.write_bytes(content)
    assert digests(copy) != json.loads((copy / EXTRA / "parity.json").read_text())["digests"]
    for check in ("proof", "replay", "C API"):
        ((result, said),) = found_by(check, copy)
        assert result == "FAILED" or (result, check) == ("skipped", "C API"), (check, said)


def test_near_ties_pass_and_are_told():
    rule = Output("ranked", by="next_logits", top=2)
    signature = {"compare": {"next_ids": rule.to_dict()}}
    scores = np.array([[3.0, 2.0, 1.99999], [3.0, 2.0, 1.0]], "float32")
    then = Golden("next", {}, {"next_ids": np.array([[7, 4], [7, 4]]), "next_logits": scores})
    now = {"next_ids": np.array([[7, 5], [7, 4]]), "next_logits": scores}
    result, words = _compared([then], [now], 1e-4, signature)
    assert result == "ok" and words.endswith("; 1 answer other than then, by a near tie")
    now["next_ids"] = np.array([[7, 4], [7, 5]])
    assert _compared([then], [now], 1e-4, signature)[0] == "FAILED"


def test_what_reaches_beyond_is_told(copy):
    graph(copy, lambda g: g.graph_def.node.add(name="r", op="ReadFile"))
    graph(copy, lambda g: g.graph_def.node[0].attr["_XlaMustCompile"])
    late = "TFText>RoundRobinTrim"
    graph(copy, lambda g: g.graph_def.node.add(name="t", op=late))
    found = found_by("operations", copy)
    assert [result for result, _ in found] == ["ok", "warning", "warning"]
    assert "TensorFlow Serving 2.20 or later" in found[0][1]
    assert "ReadFile" in found[1][1]
    assert "XLA" in found[2][1]


def test_the_names_of_tensorflow_texts_operations_are_all_known():
    core, text = ops.linked()
    assert len(core) > 1000
    assert text == {name for name in text if name.startswith("TFText>")} | ops._TEXT
    assert not core & text


def test_servers_that_are_not_promised_to_read_it_are_told():
    from kerasft.exporters.deployment import IMAGE

    assert IMAGE == "tensorflow/serving:2.20.0"
    assert ops.LEAST == (2, 20)
    assert ops.promised("2.9.1") == ops.promised("2.20.0") == ops.promised("unknown") == ""
    assert ops.promised("2.21.0-rc1") == (
        ", which servers from 2.21 on are promised to read; 2.20 is not tried here"
    )


def test_an_export_without_warm_up_requests(copy, monkeypatch):
    monkeypatch.setattr(verify_module.importlib.util, "find_spec", lambda name: None)
    ((result, said),) = found_by("warm-up", copy)
    assert (result, "pip install 'kerasft[serve]'" in said) == ("skipped", True)
    (copy / EXTRA / WARMUP).unlink()
    assert found_by("warm-up", copy) == [("skipped", "it holds no warm-up requests")]


@pytest.mark.slow
def test_an_export_without_golden_requests(copy):
    change(copy, "golden.json", lambda g: g.update(requests=[]))
    for check in ("replay", "speed", "C API"):
        ((result, said),) = found_by(check, copy)
        assert (result, "holds no golden requests" in said) == ("skipped", True)


def test_without_a_compiler_the_c_api_is_skipped(copy, monkeypatch):
    monkeypatch.setattr(c_loader, "COMPILERS", ("no-such-compiler",))
    assert found_by("C API", copy) == [("skipped", "no C compiler (no-such-compiler)")]


@pytest.mark.slow
def test_the_command(sound, copy, kerasft_cli, monkeypatch):
    monkeypatch.setattr(c_loader, "COMPILERS", ())
    ended = kerasft_cli("verify", str(sound.parent))
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == ["ok"] * 7 + ["skipped"]
    (copy / EXTRA / "labels.txt").write_text("a\n")
    ended = kerasft_cli("verify", str(copy), "--json")
    assert ended.code == 1
    found = json.loads(ended.out)
    assert [one["check"] for one in found if one["result"] == "FAILED"] == ["files", "proof"]
    ended = kerasft_cli("verify", "nowhere")
    assert ended.code == 2
    assert "There is no export at 'nowhere'" in ended.err


@pytest.mark.slow
def test_every_kind_of_value_goes_through_the_c_api(tmp_path):
    import tensorflow as tf

    if c_loader.shutil.which("cc") is None:
        pytest.skip("no C compiler")
    kinds = {"f": tf.float32, "d": tf.float64, "i": tf.int64, "u": tf.uint8, "b": tf.bool,
             "s": tf.string}  # fmt: skip

    class Echo(tf.Module):
        @tf.function(input_signature=[
            tf.TensorSpec([None, 2], kind, name=name) for name, kind in kinds.items()
        ])  # fmt: skip
        def echo(self, *given):
            return {f"{n}_out": tf.identity(x) for n, x in zip(kinds, given, strict=True)}

    module = Echo()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.echo)
    inputs = {
        "f": np.float32([[1.5, -0.0], [np.inf, 1e-30]]), "d": np.float64([[1, 2]]),
        "i": np.int64([[2**60, -1]]), "u": np.uint8([[255, 0]]), "b": np.array([[True, False]]),
        "s": np.array([[b"", b"\0\xff" * 40]], object),
    }  # fmt: skip
    definitions = Export(tmp_path / "1").definitions
    (answer,) = c_loader.ask_by_c(
        tmp_path / "1", definitions, [("serving_default", inputs)], text=False
    )
    for name, value in inputs.items():
        assert answer[f"{name}_out"].dtype == value.dtype
        assert answer[f"{name}_out"].tolist() == value.tolist()
