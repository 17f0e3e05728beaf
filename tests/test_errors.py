"""What a mistake says, where it is shown."""

from __future__ import annotations

from kerasft.errors import UserError


def test_a_notebook_shows_the_messages_alone():
    """IPython asks an exception for the lines to show, and takes a traceback if it has none."""
    assert UserError("No such key.")._render_traceback_() == ["UserError: No such key."]
    several = UserError(problems=["data.path is not there.", "epochs must be above 0."])
    assert several._render_traceback_() == [
        "UserError: data.path is not there.", "UserError: epochs must be above 0.",
    ]  # fmt: skip
