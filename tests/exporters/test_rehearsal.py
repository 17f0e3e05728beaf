"""How long an export will take is found by doing a part of it."""

from __future__ import annotations

import time

import pytest

from kerasft.artifact.fresh import ExportError
from kerasft.exporters import rehearsal, saved_model
from kerasft.exporters.rehearsal import Parts
from kerasft.exporters.served import Served, raw_examples
from kerasft.exporters.signatures import signatures_of
from kerasft.spec import Labels
from kerasft.tasks.causal_lm import CausalLM
from kerasft.tasks.classification import Classification

LABELS = Labels("single", ("good", "bad", "so, so"))


@pytest.fixture
def at_once(monkeypatch):
    """Let the fresh process import nothing: that alone takes seconds."""
    monkeypatch.setattr(rehearsal, "START", "import time; print('said'); print(time.time())")


@pytest.mark.slow
def test_all_parts_are_timed_and_nothing_is_left(
    make, texts, at_once, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    network, preprocess = make.texts()
    served = Served(network, preprocess, Classification(), LABELS)
    raw = raw_examples(texts, "text")
    signatures = signatures_of(served)
    assert len(signatures) == 4
    began = time.monotonic()
    whole = rehearsal.rehearse(served, signatures, raw, golden=4, warm_up=(1, 8))
    took = time.monotonic() - began
    assert all(part > 0 for part in vars(whole).values())
    # One of four signatures was written and asked.
    assert (whole.writing + whole.asking) / 4 < took
    assert whole.starting < took
    assert [one for one in tmp_path.iterdir() if one.is_dir()] == []
    assert "deprecated" not in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_left_out_takes_no_time(make, texts, at_once):
    network, preprocess = make.texts()
    served = Served(network, preprocess, Classification(), LABELS)
    some = signatures_of(served, ["serving_default"])
    found = rehearsal.rehearse(served, some, raw_examples(texts, "text"), golden=0, warm_up=())
    assert found.preparing == 0 < found.writing
    assert found.seconds == pytest.approx(sum(vars(found).values()))


@pytest.mark.slow
def test_a_fresh_process_without_tensorflow_is_told(make, texts, monkeypatch):
    monkeypatch.setattr(rehearsal, "START", "raise SystemExit(3)")
    network, preprocess = make.texts()
    served = Served(network, preprocess, Classification(), LABELS)
    some = signatures_of(served, ["serving_default"])
    with pytest.raises(ExportError, match=r"cannot import TensorFlow \(exit status 3\)"):
        rehearsal.rehearse(served, some, raw_examples(texts, "text"), golden=0, warm_up=())


def test_parts_add_up():
    assert Parts(1.0, 2.0, 3.0, 4.0, 5.0).seconds == 15.0


def test_a_network_that_writes_is_not_told(make, texts):
    network, preprocess = make.texts()
    assert saved_model.rehearse(
        network, preprocess=preprocess, task=CausalLM(), labels=LABELS,
        examples=raw_examples(texts, "text"),
    ) is None  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_an_export_takes_about_as_long_as_was_said(make, kind, request, tmp_path):
    network, preprocess = getattr(make, kind)()
    raw = raw_examples(request.getfixturevalue(kind), preprocess.modality)
    given = {"preprocess": preprocess, "task": Classification(), "labels": LABELS, "examples": raw}
    said = saved_model.rehearse(network, **given)
    began = time.monotonic()
    saved_model.saved_model(network, tmp_path / "export", **given)
    took = time.monotonic() - began
    # Twice off at rest; the tests share the machine.
    assert took / 4 < said < took * 4
