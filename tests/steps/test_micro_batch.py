"""`batch_size=auto`: what it stands for, what is found, and that the run is that of the numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from interruption import stopped

import kerasft
from kerasft.config import composition
from kerasft.config.checks import settle
from kerasft.errors import UserError
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.costs import micro_batch
from kerasft.steps.costs.memory import OutOfMemory, halve
from kerasft.steps.costs.memory_trial import Fit, Room, decisive, largest

# No machine has so little: the smallest batch is taken.
LITTLE = "memory_gb=0.001"


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "whole"), [
    ([], 16),  # of the digits
    (["experiment=bccd_mobilenet"], 8),
    (["experiment=bccd_mobilenet", "optimizer.gradient_accumulation_steps=4"], 32),
    (["effective_batch=48"], 48),
    (["batch_tokens=1000", "optimizer.gradient_accumulation_steps=2"], 2000),
    (["data=table"], 32),
])  # fmt: skip
def test_auto_stands_for_the_number_that_would_be_there(overrides, whole):
    cfg = kerasft.compose([*overrides, "batch_size=auto"])
    assert (cfg.batch_size, cfg.effective_batch) == ("auto", whole)
    assert kerasft.compose(overrides).effective_batch == (48 if "48" in str(overrides) else None)


def test_of_a_run_that_is_repeated_it_stands_for_its_number(tiny_run):
    from kerasft.runs.repetition import recorded_config

    cfg = recorded_config(str(tiny_run), ["batch_size=auto"])
    assert (cfg.batch_size, cfg.effective_batch) == ("auto", 15)


def test_a_number_from_the_environment_is_one(monkeypatch):
    monkeypatch.setenv("BATCH", "12")
    assert kerasft.compose(["batch_size=${oc.env:BATCH}"]).batch_size == 12


@pytest.mark.every(2)
@pytest.mark.parametrize(("overrides", "said"), [
    (["batch_size=Auto"], "batch_size must be a whole number of examples, or auto"),
    (["batch_size=8", "effective_batch=32"], "effective_batch is what an update learns from"),
    (["batch_size=auto", "effective_batch=0"], "effective_batch must be at least 1"),
    (["batch_size=auto", "memory_gb=-1"], "memory_gb must be above 0"),
])  # fmt: skip
def test_what_cannot_be_meant_is_said(overrides, said):
    with pytest.raises(UserError, match=said):
        settle(overrides, (), ())


def test_an_optimizer_that_cannot_accumulate_is_refused(tmp_path, monkeypatch):
    (tmp_path / "own_learner.py").write_text("def sgd(*, learning_rate):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"batch_size=auto needs an optimizer that learns from sev"):
        settle(["batch_size=auto", "optimizer._target_=own_learner.sgd"], (), ("own_learner",))


def test_the_numbers_of_a_run_pass_the_check_again():
    settle(["batch_size=8", "optimizer.gradient_accumulation_steps=4", "effective_batch=32"],
           (), ())  # fmt: skip


def room(limit, *, farther=4) -> Room:
    return Room(limit, 100, farther)


def line(size: int) -> int:
    return 100 + 10 * size


def test_large_batches_are_tried_from_small_ones_up():
    tried = []

    def trial(size):
        tried.append(size)
        return line(size)

    found = largest([1, 2, 4, 8, 16, 32], trial, room(100_000))
    assert (found.size, tried) == (32, [1, 2, 8, 32]) and found.suffices


@pytest.mark.parametrize(("limit", "size"), [(105, 1), (110, 1), (139, 2), (140, 4), (419, 16),
                                             (420, 32)])  # fmt: skip
def test_the_largest_that_fits_is_found(limit, size):
    found = largest([1, 2, 4, 8, 16, 32], line, room(limit))
    assert found.size == size
    assert found.suffices == (limit >= 110)
    # What is too large is not tried on a processor, where it would end the process.
    assert all(line(tried) <= limit for tried in found.peaks if tried > 1)


def test_where_memory_grows_faster_than_expected_less_is_taken():
    found = largest([1, 2, 4, 8, 16], lambda size: 100 + size**2, room(200))
    assert found.size == 8


@pytest.mark.parametrize("most", [1, 5, 12, 24, 47, 48])
def test_on_a_gpu_trying_tells(most):
    """A stand-in for a GPU, whose limit shows in the error alone."""
    sizes = [size for size in range(1, 49) if 48 % size == 0]

    def trial(size):
        if size > most:
            raise OutOfMemory("Out of memory")
        return line(size)

    found = largest(sizes, trial, room(None, farther=2))
    assert found.size == max(size for size in sizes if size <= most)
    assert largest(sizes[1:], trial, room(None, farther=2)).suffices == (most > 1)


def test_the_stage_that_takes_most_decides():
    trains = {"head": 10, "all": 90, "large": 90, "last": 80}
    sizes = {"head": None, "all": None, "large": (64, 64), "last": None}
    assert decisive(trains, sizes) == ["all", "large"]


@pytest.mark.every(3)
@pytest.mark.parametrize(("overrides", "found", "wanted"), [
    (["max_steps=10"], Fit(4, 4, {}, None), {"batch_size": 4, "max_steps": 40,
     "optimizer.gradient_accumulation_steps": 4, "schedule.warmup": 0.1, "effective_batch": 16}),
    (["schedule.warmup=20"], Fit(8, 2, {}, None), {"batch_size": 8, "schedule.warmup": 40}),
    ([], Fit(16, 1, {}, None), {"batch_size": 16, "optimizer.gradient_accumulation_steps": None}),
    (["optimizer.gradient_accumulation_steps=2", "max_steps=10"], Fit(32, 1, {}, None),
     {"batch_size": 32, "max_steps": 5, "optimizer.gradient_accumulation_steps": None}),
    (["batch_tokens=1000"], Fit(333, 3, {}, None),
     {"batch_size": 32, "batch_tokens": 333, "effective_batch": 999}),
])  # fmt: skip
def test_what_was_found_is_written_into_the_config(overrides, found, wanted):
    cfg = kerasft.compose([*overrides, "batch_size=auto"])
    micro_batch.write(cfg, found)
    assert {key: composition.OmegaConf.select(cfg, key) for key in wanted} == wanted
    kerasft.check(cfg)


def test_what_counts_batches_grows_as_they_are_halved():
    cfg = kerasft.compose(["batch_size=32", "max_steps=100", "schedule.warmup=15"])
    said = halve(cfg)
    assert said.endswith("max_steps=200 schedule.warmup=30")
    assert (cfg.batch_size, cfg.max_steps, cfg.schedule.warmup) == (16, 200, 30)
    share = kerasft.compose(["batch_size=32"])
    before = share.schedule.warmup
    halve(share)
    assert share.max_steps is None and share.schedule.warmup == before


def test_half_of_it_keeps_to_the_numbers():
    cfg = kerasft.compose(["batch_size=auto", "effective_batch=10"])
    micro_batch.write(cfg, Fit(5, 2, {}, None))
    halve(cfg)
    assert (cfg.batch_size, cfg.effective_batch) == (2, 8)
    kerasft.check(cfg)


@pytest.mark.slow
def test_a_run_is_that_of_the_numbers_that_were_found(tiny_images, tmp_path, capsys):
    words = [*(one for one in tiny_images if not one.startswith("batch_size")), "epochs=1",
             "head.dropout=0.2", "effective_batch=6", LITTLE]  # fmt: skip
    found = kerasft.train([*words, "batch_size=auto", f"output_dir={tmp_path / 'auto'}"])
    said = capsys.readouterr()
    assert re.search(r"batch_size=auto: 1 example \(\d\.\d GB of 0\.0 GB\); an update learns "
                     r"from 6 such batches, 6 examples", said.out)  # fmt: skip
    assert said.out.count("data: 30 train") == 1
    assert "1 example, the smallest batch, may take more memory" in said.err + said.out
    recorded = RunFolder(tmp_path / "auto").read_config()
    assert recorded.batch_size == 1 and recorded.effective_batch == 6
    assert recorded.optimizer.gradient_accumulation_steps == 6
    same = kerasft.train([
        *words[:-2], "batch_size=1", "optimizer.gradient_accumulation_steps=6",
        f"output_dir={tmp_path / 'numbers'}",
    ])  # fmt: skip
    assert found.metrics == same.metrics
    for one, other in zip(
        found.finetuned.model.get_weights(), same.finetuned.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_same_command_goes_on_with_the_numbers_that_it_began_with(
    tiny_texts, tmp_path, monkeypatch
):
    words = [*(one for one in tiny_texts if not one.startswith("batch_size")), "batch_size=auto",
             "effective_batch=4", LITTLE, "resume=auto", "checkpoint.steps=1"]  # fmt: skip
    whole = kerasft.train([*words, f"output_dir={tmp_path / 'whole'}"])
    run = f"output_dir={tmp_path / 'run'}"
    stopped([*words, run], monkeypatch, 30)
    # With as much memory as there is, all four would fit by now.
    again = kerasft.train([*(one for one in words if one != LITTLE), run])
    assert again.metrics == whole.metrics
    recorded = RunFolder(tmp_path / "run").read_config()
    assert recorded.batch_size == 1
    for one, other in zip(
        whole.finetuned.model.get_weights(), again.finetuned.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


# In a process of its own: one that has run a thousand tests has memory to spare.
MEASURE = """
import json
import sys

from kerasft.config.checks import settle
from kerasft.steps.costs import memory_trial
from kerasft.steps.preparing import prepare

cfg = settle(sys.argv[1:], (), ())
with prepare.runtime(cfg):
    parts = prepare.cheap_parts(cfg)
    splits = prepare.read_data(cfg, parts, None)
    backbone = prepare.load_backbone(cfg, splits)
    ready = prepare.make_ready(cfg, parts, splits, backbone)
    found, moving = memory_trial.measure(cfg, parts, ready, backbone)
print(json.dumps({
    "size": found.size, "each": found.each, "moving": moving, "peaks": sorted(found.peaks.items()),
}))
"""


@pytest.mark.slow
def test_measured_memory_grows_with_the_batch_and_a_limit_is_kept(tiny_images, capsys):
    words = [*(one for one in tiny_images if not one.startswith(("batch_size", "backbone.im"))),
             "backbone.image_size=320", "batch_size=auto", "effective_batch=16"]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    roomy = json.loads(ended.stdout.splitlines()[-1])
    peaks = roomy["peaks"]
    assert roomy["size"] == 16 and roomy["each"] == 1 and roomy["moving"]
    assert [size for size, _ in peaks] == [1, 2, 8, 16]
    assert peaks[-1][1] - peaks[1][1] > 50e6  # of 14 more images
    half = (dict(peaks)[8] + dict(peaks)[16]) / 2
    found = largest(
        [1, 2, 4, 8, 16], lambda size: np.interp(size, *zip(*peaks, strict=True)),
        Room(half, peaks[0][1] - 50_000_000, 4),
    )
    assert found.size == 8
    found = replace(found, each=2)
    micro_batch.tell(settle(words, (), ()), found, roomy["moving"])
    said = "".join(capsys.readouterr())
    assert "goes by the statistics of 8 examples, not of 16 examples" in said


@pytest.mark.slow
def test_tokens_are_divided(tiny_texts, capsys):
    kerasft.train([
        *tiny_texts, "epochs=1", "batch_size=auto", "batch_tokens=96", LITTLE, "output_dir=run",
    ])  # fmt: skip
    recorded = RunFolder(Path("run")).read_config()
    longest = 24  # positions of the longest of these texts, padded
    assert recorded.batch_tokens >= longest
    assert recorded.batch_tokens * recorded.optimizer.gradient_accumulation_steps <= 96
    assert f"batch_size=auto: {longest} tokens" in capsys.readouterr().out


def test_plan_says_what_the_run_would_do(tiny_images, monkeypatch):
    seen = []
    monkeypatch.setattr(micro_batch, "settle", lambda cfg: seen.append(cfg.batch_size) or halt())

    def halt():
        raise UserError("enough")

    for act in (kerasft.plan, kerasft.train, kerasft.lr_find):
        with pytest.raises(UserError, match="enough"):
            act([*tiny_images, "batch_size=auto"])
    assert seen == ["auto"] * 3
