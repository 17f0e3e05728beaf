"""A run that is stopped in the middle of an epoch, and goes on."""

import json
import os
import signal

import numpy as np
import pytest

import kerasft
from kerasft.errors import Stopped
from kerasft.steps.measuring.reopening import reopen
from kerasft.training.recorder import Recorder


def stopped(words, monkeypatch, after, **given):
    """Train until a signal stops it, where a checkpoint might be due for the time `after`."""
    plain, count = Recorder._at, iter(range(100))

    def at(recorder, position):
        if next(count) == after:
            os.kill(os.getpid(), signal.SIGTERM)
        plain(recorder, position)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Recorder, "_at", at)
        kerasft.train(words, **given)


def stopped_and_resumed(words, run, monkeypatch):
    """Train into a folder, with a signal in the middle of the second epoch, and go on."""
    stopped([*words, "checkpoint.steps=1", f"output_dir={run}"], monkeypatch, 8)
    kerasft.resume(str(run))


def require_equal(*runs, trusted=()):
    """Check that two runs ended with the same figures and weights, to the last bit."""
    one, other = (json.loads((run / "metrics.json").read_text())["test"] for run in runs)
    assert one == other
    for mine, theirs in zip(
        *(reopen(str(run), trusted)[1].model.get_weights() for run in runs), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
