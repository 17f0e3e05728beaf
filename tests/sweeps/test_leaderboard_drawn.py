"""Leaderboards of detectors and segmentations: intervals and pairs of figures over images."""

from __future__ import annotations

import shutil
from pathlib import Path

import masked_rectangles as masked
import pytest
import rectangles as boxed

import kerasft
from kerasft.system.files import read_json


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "fixture", "words_of"), [
    ("map", "rectangles", boxed.words_of), ("mean_iou", "masked_rectangles", masked.words_of),
])  # fmt: skip
def test_a_sweep_is_compared_by_what_its_runs_kept(
    metric, fixture, words_of, request, kerasft_cli, tmp_path
):
    data = shutil.copytree(request.getfixturevalue(fixture), tmp_path / "data")
    words = [word for word in words_of(data) if "learning_rate" not in word]
    done = kerasft_cli("sweep", *words, "sweep=grid", "optimizer.learning_rate=5e-3,1e-6",
                       "plots=false", "output_dir=s")  # fmt: skip
    assert done.code == 0, done.err
    # Nothing is predicted again: neither networks nor images are there any more.
    shutil.rmtree(data)
    for path in Path("s").rglob("*"):
        if path.suffix in (".keras", ".h5", ".safetensors"):
            path.unlink()
    good, bad = kerasft.leaderboard("s")
    for row in (good, bad):
        written = read_json(Path("s") / row["run"] / "metrics.json")["validation"]
        assert row["metric"] == f"val_{metric}" or row["metric"] == metric
        assert row["validation"] == pytest.approx(written[metric], abs=1e-6)
        low, high = row["interval"]
        assert 0 <= low <= row["validation"] <= high <= 1
    low, high = good["interval"]
    assert 0 < high - low < 1
    assert good["setting"]["p"] == 1.0
    assert good["setting"]["as_good_as_best"] is True
    assert bad["setting"]["p"] < 0.05
    assert bad["setting"]["as_good_as_best"] is False
    # The same twice: the images that are drawn are a matter of arithmetic.
    assert kerasft.leaderboard("s") == [good, bad]
    said = kerasft_cli("leaderboard", "s")
    assert said.code == 0, said.err
    assert f"{low:.4f} to {high:.4f}" in said.out
