"""What `distribute` goes with is checked before anything starts."""

import pytest

from kerasft.config.checks import settle
from kerasft.errors import UserError


@pytest.mark.parametrize(("words", "message"), [
    (["distribute=miror"], r"one of mirrored, multi_worker, auto.*Did you mean 'mirrored'"),
    (["distribute=mirrored", "batch_size=auto"], r"batch_size=auto measures what fits on one"),
    (["distribute=auto", "budget=1m"], r"budget times a few steps on one device"),
    (["distribute=auto", "faults.memory=halve"], r"would wait for it"),
    (["distribute_timeout=0"], r"must be above 0"),
])
def test_what_does_not_go_together_is_told(words, message):
    with pytest.raises(UserError, match=message):
        settle(words, (), ())


def test_what_goes_together_passes():
    assert settle(["distribute=mirrored", "faults.memory=halve"], (), ()).distribute == "mirrored"


def test_a_batch_smaller_than_the_workers_is_told_where_they_are_known(monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("KERASFT_WORKERS", "run-{index}.run:12345,8")
    with pytest.raises(UserError, match=r"batch_size is that of all devices.*4 for 8 devices"):
        settle(["distribute=auto", "batch_size=4"], (), ())
    assert settle(["batch_size=4"], (), ()).distribute is None
    assert settle(["distribute=mirrored", "batch_size=4"], (), ())
    assert settle(["distribute=auto", "batch_size=8"], (), ())
    # What is wrong with the variables themselves is told when the workers are to meet.
    monkeypatch.setenv("KERASFT_WORKERS", "run,8")
    assert settle(["distribute=auto", "batch_size=4"], (), ())
