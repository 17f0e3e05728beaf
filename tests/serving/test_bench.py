"""`kerasft bench` times an export, and the same network under onnxruntime."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import sys

import numpy as np
import pytest

import kerasft
from kerasft.errors import UserError
from kerasft.serving import bench as bench_module
from kerasft.serving import stopwatch
from kerasft.serving.bench import ROUNDS, Timing, _timings, as_text, bench
from kerasft.system import heap

HAS_ONNX = all(importlib.util.find_spec(n) for n in ("onnxruntime", "tf2onnx"))


@pytest.fixture(scope="module")
def export(tiny_run, tmp_path_factory):
    root = tmp_path_factory.mktemp("timed")
    kerasft.export(str(tiny_run), [f"export.saved_model.directory={root}"])
    return root


@pytest.mark.slow
def test_an_export_is_timed(export, kerasft_cli):
    ended = kerasft_cli("bench", str(export), "--batch", "1,3", "--seconds", "0.2", "--json",
                        *([] if HAS_ONNX else ["--no-onnx"]))  # fmt: skip
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    engines = ["serving_default", "tensors", *(["onnx"] if HAS_ONNX else [])]
    assert [(t["what"], t["batch"]) for t in found["timings"]] == [
        (engine, size) for engine in engines for size in (1, 3)
    ]
    assert found["notes"] == []
    for one in found["timings"]:
        assert one["runs"] >= ROUNDS
        assert 0 < one["p50"] <= one["p95"] <= one["p99"] < 10
        assert one["per_second"] == pytest.approx(one["batch"] / one["p50"], rel=5)
        assert (one["ratio"] is not None) == (HAS_ONNX and one["what"] == "tensors")


def test_an_engine_keeps_the_memory_that_operations_free_as_a_server_does(
    tmp_path, monkeypatch, capsys
):
    done = []

    def session(model, outputs, threads):
        done.append(f"load {model}")
        return lambda inputs: lambda: done.append(inputs["x"].tolist())

    for name in ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # it sets them for its process
    monkeypatch.setattr(heap, "keep", lambda: done.append("keep"))
    monkeypatch.setattr(stopwatch, "session", session)
    monkeypatch.setattr(sys, "stdin", io.StringIO("2 0\n"))
    np.savez(tmp_path / "inputs.npz", **{"2/x": np.arange(2)})
    stopwatch.main("session", "export", str(tmp_path / "inputs.npz"), "y", "0")
    assert done == ["keep", "load export", [0, 1], [0, 1]]
    ready, times = capsys.readouterr().out.splitlines()
    assert ready.startswith("ready ")
    assert len(json.loads(times)) == 1


def test_figures_are_those_of_the_rounds():
    rounds = {("tensors", 2): [[1.0, 1.0, 4.0], [2.0]], ("onnx", 2): [[0.5], [4.0]]}
    tensors, onnx = _timings(rounds, [2])
    assert tensors == Timing("tensors", "TensorFlow", 2, 4, 1.5, pytest.approx(3.7),
                             pytest.approx(3.94), 1.0, pytest.approx((2.0 + 0.5) / 2))
    assert (onnx.runs, onnx.ratio) == (2, None)
    shown = as_text([tensors, onnx], ["a note"])
    assert "1500.00" in shown
    assert shown.endswith("a note")


@pytest.mark.slow
def test_what_cannot_be_timed_is_told(export, tmp_path, monkeypatch, kerasft_cli):
    copy = shutil.copytree(export / "1", tmp_path / "1")
    file = copy / "assets.extra" / "golden.json"
    golden = json.loads(file.read_text())
    file.write_text(json.dumps({**golden, "requests": [
        one for one in golden["requests"] if one["signature_name"] != "tensors"
    ]}))  # fmt: skip
    timings, notes = bench(copy, batches=[1], seconds=0.1)
    assert [t.what for t in timings] == ["serving_default"]
    assert notes == ["tensors was not timed: it has no such signature, or no golden request."]
    file.write_text(json.dumps({**golden, "requests": []}))
    with pytest.raises(UserError, match="holds no golden requests"):
        bench(copy, batches=[1])
    monkeypatch.setattr(bench_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnxruntime.*pip install 'kerasft\[onnx\]'"):
        bench_module._wanted(True, [])
    notes = []
    assert not bench_module._wanted(None, notes)
    assert "is not installed" in notes[0]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--batch", "1,x"], "Received: '1,x'"),
    (["--batch", "0"], "--batch must be from 1 to 1,000,000"),
    (["--batch", "9" * 5000], "--batch takes batch sizes"),
    (["--batch", "1,2000000"], "Received: 2000000"),
    (["--batch", ",".join(["1"] * 101)], "from 1 to 100 batch sizes"),
    (["--seconds", "0"], "--seconds must be from 0.01 to 86,400"),
    (["--seconds", "inf"], "Received: inf"),
    (["--seconds", "nan"], "Received: nan"),
    (["--threads", "-1"], "--threads must be from 0 to 1,024"),
    (["--threads", "10000000000"], "Received: 10000000000"),
])  # fmt: skip
def test_mistakes(arguments, words, tmp_path, kerasft_cli):
    ended = kerasft_cli("bench", str(tmp_path), *arguments)
    assert ended.code == 2
    assert words in ended.err


@pytest.mark.skipif(not HAS_ONNX, reason="onnxruntime or tf2onnx is not installed")
@pytest.mark.slow
def test_a_network_that_answers_otherwise_is_not_timed(export, monkeypatch):
    golden = bench_module.read_golden(export / "1")[0]
    wrong = [type(one)(one.signature, one.inputs, {k: np.zeros_like(v) for k, v in
                                                   one.outputs.items()})
             for one in golden]  # fmt: skip
    monkeypatch.setattr(bench_module, "read_golden", lambda path: (wrong, 1e-4))
    timings, notes = bench(export, batches=[1], seconds=0.1)
    assert [t.what for t in timings] == ["serving_default", "tensors"]
    assert "its answers differ by" in notes[0]
