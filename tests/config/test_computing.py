"""How a run computes is checked before anything starts."""

import pytest

from kerasft.config.checks import settle
from kerasft.errors import UserError


@pytest.mark.parametrize(("words", "message"), [
    (["deterministic=atuo"], r"one of auto, true, false\. Received: 'atuo'\. Did you mean 'auto'"),
    (["jit_compile=true"], r"needs deterministic=false: .* Received: deterministic=auto"),
    (["jit_compile=true", "deterministic=true"], r"Received: deterministic=true"),
    (["jit_compile=true", "deterministic=false", "distribute=mirrored"],
     r"XLA cannot compile what several do together"),
    (["prefetch_to_device=true", "distribute=auto"], r"get their shares by themselves"),
])
def test_what_does_not_go_together_is_told(words, message):
    with pytest.raises(UserError, match=message):
        settle(words, (), ())


@pytest.mark.parametrize(("word", "value"), [("auto", "auto"), ("true", True), ("false", False)])
def test_what_goes_together_passes(word, value):
    more = ["jit_compile=true"] if value is False else []
    found = settle([f"deterministic={word}", *more], (), ()).deterministic
    assert (found, type(found)) == (value, type(value))
