"""Numbers that no server could use are refused before anything is loaded."""

from __future__ import annotations

import asyncio

import pytest

from kerasft.commands import make_parser
from kerasft.errors import UserError
from kerasft.serving.options import BOUNDS
from kerasft.serving.server import Server, Settings, _require_sane

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(("option", "value"), [
    ("most_mb", INF), ("most_mb", 3000.0), ("most_mb", 1e-9), ("most_mb", NAN), ("most_mb", 0),
    ("timeout", INF), ("timeout", NAN), ("timeout", -1), ("timeout", 1e300), ("poll", INF),
    ("poll", 0.0), ("wait_ms", NAN), ("wait_ms", -5.0), ("wait_ms", INF), ("threads", -3),
    ("threads", 10**10), ("threads", 1.5), ("batch", 0), ("batch", 10**400), ("batch", True),
    ("waiting", -1), ("waiting", 10**20), ("rest_port", -1), ("grpc_port", 70_000),
    ("grpc_port", "8500"),
])  # fmt: skip
def test_what_is_out_of_bounds_gets_one_message(option, value):
    name = option.replace("_", "-")
    with pytest.raises(UserError, match=rf"^--{name} must be .*from .* to .*Received: ") as refused:
        _require_sane(Settings("toy", **{option: value}))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("end", [0, 1])
def test_what_is_within_the_bounds_makes_a_server(end, tmp_path):
    given = {
        option: pair[end] for option, pair in BOUNDS.items()
        if option in Settings.__dataclass_fields__
    }  # fmt: skip
    assert len(given) == 9
    settings = Settings(str(tmp_path), **given)
    _require_sane(settings)

    async def make() -> Server:
        return Server(settings, tmp_path)

    asyncio.run(make()).model.close()


def test_every_numeric_option_of_the_commands_has_bounds():
    commands = next(a for a in make_parser()._actions if a.choices and "serve" in a.choices)
    seen = set()
    for name in ("serve", "verify", "bench"):
        for action in commands.choices[name]._actions:
            if action.type in (int, float):
                seen.add(action.dest)
                assert action.dest in BOUNDS
    # Batch sizes of `bench` are one text.
    assert seen == set(BOUNDS)
