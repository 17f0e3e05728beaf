"""Two real processes, of which one is lost or fails while the first one exports."""

import json
import os
import subprocess
import sys

import pytest

from kerasft.distributed.launching import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket]

# A command whose export is what stands in `ACT`, in the first worker alone.
COMMAND = """
import json, os, signal, sys, time
from kerasft.cli import main
from kerasft.errors import UserError
from kerasft.steps.answers import exporting

def export(*given):
    {act}
    return {{}}

exporting.export = export
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def ended(tmp_path):
    """Train with two workers; return the exit statuses, what they said and how the run ended."""
    def trained(act):
        rows = [f"a {word} film {i},{label}" for i in range(10)
                for word, label in (("good", "pos"), ("bad", "neg"))]  # fmt: skip
        (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
        words = ["data=table", "data.path=texts.csv", "data.text=text", "data.label=label",
                 "backbone=tiny_bert", "finetune=full", "epochs=1", "batch_size=4", "floor=none",
                 "training_sample=0", "plots=false", "distribute=auto", "resume=auto",
                 "output_dir=run", "cache.directory=cache"]  # fmt: skip
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
        made = []
        for rank in (1, 0):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            made.insert(0, subprocess.Popen(
                [sys.executable, "-c", COMMAND.format(act=act), "train", *words], cwd=tmp_path,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "TF_CONFIG": json.dumps(task), "OTHER": str(made[0].pid) if made
                     else ""},
            ))  # fmt: skip
        said = [one.communicate(timeout=200)[1] for one in made]
        facts = json.loads((tmp_path / "run" / "run.json").read_text())
        return [one.returncode for one in made], said, facts["status"]

    return trained


def test_a_worker_that_is_killed_while_the_first_one_exports_changes_nothing(ended):
    codes, said, status = ended("os.kill(int(os.environ['OTHER']), signal.SIGKILL); time.sleep(1)")
    assert (codes, status) == ([0, -9], "done"), said
    assert "is gone, after the run was done" in said[0]
    assert "Traceback" not in said[0]


def test_what_fails_in_the_first_worker_ends_the_others_alike(ended):
    codes, said, status = ended("raise UserError('the disk is full')")
    assert (codes, status) == ([2, 2], "failed"), said
    assert "error: the disk is full" in said[0]
    assert "has failed, and this worker ends with it: the disk is full" in said[1]
