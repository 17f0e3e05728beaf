"""Memory that can be had, as Linux tells it."""

from __future__ import annotations

import pytest

from kerasft.system import memory


@pytest.mark.parametrize(("most", "expected"), [("max", None), ("5000", 4500), (str(2**62), None)])
def test_the_limit_of_a_container_counts_but_for_files_that_can_be_let_go(
    most, expected, tmp_path, monkeypatch
):
    group = tmp_path / "mine"
    group.mkdir()
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 500\n")
    monkeypatch.setattr(
        memory, "_groups", lambda: iter([(group, "memory.max", "memory.current")])
    )
    found = memory.available()
    assert found == expected if expected else found > 10_000_000
