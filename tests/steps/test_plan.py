"""What a run will cost, told before it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import kerasft
from kerasft.steps.costs.plan import in_words, of_all_widths, reckon


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_each_stage_is_told_and_nothing_is_trained(tiny_images, kerasft_cli, tmp_path):
    said = kerasft_cli(
        "train", "--plan", *tiny_images, "finetune=two_phase", "cache.activations=always"
    )
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines() if re.match(r"(head|all) +(whole|kept)",
            line)]  # fmt: skip
    assert [row[:2] for row in rows] == [["head", "whole"], ["head", "kept"], ["all", "whole"]]
    # The rates of the run: 1e-3 for a head and for so small a network, a tenth in the second stage.
    rates = [float(row[4 if row[1] == "whole" else 3]) for row in rows]
    assert rates == [1e-3, 1e-3, 1e-4]
    assert "stage head: kept activations save" in said.out
    assert "in all about" in said.out
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_as_json(tiny_texts, kerasft_cli):
    said = kerasft_cli("train", "--plan", "--json", *tiny_texts, "finetune=linear_probe")
    (stage,) = json.loads(said.out)
    assert stage["steps"] == 2 * 6
    assert stage["cache_declined"].startswith("it would not pay")
    assert stage["cached"]["step"] > 0 and 0 < stage["whole"]["step"] < 60
    assert stage["seconds"] == stage["whole"]["total"]
    assert stage["memory_bytes"] > 1e8 and stage["cache_bytes"] > 0
    once, epoch = stage["whole"]["once"], stage["whole"]["epoch"]
    assert stage["whole"]["total"] == pytest.approx(once + 2 * epoch)


@pytest.mark.slow
def test_a_plan_counts_the_steps_that_the_run_takes(tiny_texts, capsys):
    common = [*tiny_texts, "finetune=two_phase", "max_steps=4", "batch_tokens=100"]
    planned = kerasft.plan(common)
    result = kerasft.train([*common, "output_dir=run"])
    rows = result.history.rows
    assert {one.name for one in planned} == {row["stage"] for row in rows}
    said = re.findall(r"^stage (\w+): (\d+) steps, .* (\d[\d,]*) of", capsys.readouterr().out, re.M)
    trains = [(one.name, str(one.steps), f"{one.trains:,}") for one in planned]
    assert said == trains and [one.steps for one in planned] == [4, 4]


@pytest.mark.slow
def test_what_the_cache_holds_is_not_made_again(tiny_texts, monkeypatch):
    from kerasft.steps.costs.plan import Timer

    monkeypatch.setattr(Timer, "_passes", lambda timer, compute, store: 100.0)
    common = [*tiny_texts, "finetune=linear_probe", "cache.activations=always"]
    (before,) = kerasft.plan(common)
    kerasft.train(common)
    (after,) = kerasft.plan(common)
    assert before.cached.once > 200.0 > after.cached.once


@pytest.mark.parametrize(("argv", "said"), [
    (["--json"], "add --plan"), (["--plan", "-m"], "one run"),
])  # fmt: skip
def test_what_does_not_go_together(kerasft_cli, tiny_texts, argv, said):
    answer = kerasft_cli("train", *argv, *tiny_texts)
    assert answer.code == 2 and said in answer.err


def test_times_between_the_measured_widths_lie_between_them():
    took = reckon([30, 10], np.array([3.0, 1.0]), [10, 20, 30, 40])
    np.testing.assert_allclose(took, [1.0, 2.0, 3.0, 3.0])


def test_the_sample_holds_the_narrowest_and_the_widest():
    lengths = np.arange(100)
    batches = np.split(np.random.default_rng(0).permutation(100), 20)
    chosen = [int(lengths[b].max()) for b in of_all_widths(batches, lengths)]
    every = sorted(int(lengths[b].max()) for b in batches)
    assert chosen == sorted(chosen) and len(chosen) == 5
    assert chosen[0] == every[0] and chosen[-1] == every[-1]
    assert len(of_all_widths(batches, None)) == 1


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (150, "2 min"), (9000, "2 h 30 min")])
def test_durations(seconds, words):
    assert in_words(seconds) == words
