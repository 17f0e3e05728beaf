"""Two and three processes give the loss of each step that one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kerasft.distributed.launching import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

SCRIPT = Path(__file__).parents[1] / "shared" / "worker_cases.py"
# Batches that neither two nor three divide, last ones that are shorter or have one example.
CASES = ("class_weights", "l2", "one_left", "words")


def trained(folder, workers):
    """Train all cases in so many processes at once, and return what each of them found."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    begun = []
    for rank in range(workers):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        config = {"TF_CONFIG": json.dumps(task)} if workers > 1 else {}
        begun.append(subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder / f"{workers}-{rank}"), *CASES],
            env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), **config},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
    for one in begun:
        said, _ = one.communicate(timeout=500)
        assert one.returncode == 0, said[-3000:]
    found = []
    for rank in range(workers):
        told = json.loads((folder / f"{workers}-{rank}" / "found.json").read_text("utf-8"))
        assert (told["workers"], told["rank"]) == (workers, rank)
        found.append(told["cases"])
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), 1)[0]


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("together"), request.param)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_each_step_is_that_of_one_process(alone, together, name):
    one = alone[name]
    assert len(one["losses"]) > 3
    assert len(set(one["losses"])) > 1
    for worker in together:
        found = worker[name]
        np.testing.assert_allclose(found["losses"], one["losses"], rtol=1e-6, atol=0)
        for mine, theirs in zip(found["weights"], one["weights"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
        rows = [[row["val_loss"] for row in of["rows"]] for of in (found, one)]
        np.testing.assert_allclose(*rows, rtol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_all_workers_have_the_same_weights(together, name):
    for worker in together[1:]:
        assert worker[name]["losses"] == together[0][name]["losses"]
        for mine, theirs in zip(worker[name]["weights"], together[0][name]["weights"], strict=True):
            assert mine == theirs
