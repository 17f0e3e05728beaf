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
