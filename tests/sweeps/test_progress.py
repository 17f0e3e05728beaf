"""What a sweep shows, and whether there is memory for another worker."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest

from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps import memory
from kerasft.sweeps.ledger import DONE, PRUNED, Outcome
from kerasft.sweeps.progress import Progress
from kerasft.sweeps.supervisor import Supervisor
from kerasft.sweeps.urls import without_password


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_a_trial(begin, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasft.sweeps.progress.EVERY", 0.0)
    ledger, stream = begin(tmp_path / "s"), io.StringIO()
    ledger.settle(ledger.claim(), Outcome(DONE, values=[0.5]))
    progress = Progress(ledger, stream)
    claim = ledger.claim()
    progress.update()
    assert stream.getvalue() == ""  # what had ended is not told again, and nothing runs on
    ledger.settle(claim, Outcome(PRUNED, "pruned after epoch 1"))
    progress.update()
    progress.update()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("trial 1  pruned  pruned after epoch 1")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_what_runs(begin, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasft.sweeps.progress.EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    ledger, stream = begin(tmp_path / "s"), Terminal()
    progress = Progress(ledger, stream)
    first, second = ledger.claim(), ledger.claim()
    first.trial.report(0.25, 3)
    progress.update()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "0 of 4 trials have ended, 2 run"
    assert lines[1].startswith("trial 0  epoch 3  0.2500  (0 s)  batch_size=")
    assert lines[2].startswith("trial 1  begins") and max(map(len, lines)) < 60
    ledger.settle(first, Outcome(DONE, values=[0.3]))
    progress.update()
    last = stream.getvalue().split("\x1b[3A\x1b[J")[1].splitlines()  # three lines taken away
    assert last[0].startswith("trial 0  done  accuracy 0.3000")
    assert last[1] == "1 of 4 trials have ended, 1 run" and len(last) == 3
    progress.clear()
    assert stream.getvalue().endswith("\x1b[2A\x1b[J")
    ledger.settle(second, Outcome(DONE, values=[0.3]))


def test_a_gauge_knows_when_a_process_has_what_it_needs(monkeypatch):
    gauge = memory.Gauge(os.getpid())
    assert not gauge.steady
    gauge.look()
    assert gauge.most > 10_000_000 and not gauge.steady
    monkeypatch.setattr(memory, "STEADY", 0.0)
    gauge.look()
    assert gauge.steady
    memory.Gauge(2**22 + 1).look()  # gone


@pytest.mark.parametrize(("free", "steady", "started"), [
    (20 * memory.GIB, False, 3),  # ample: none is waited for
    (3 * memory.GIB, False, 1),   # the first still grows
    (3 * memory.GIB, True, 3),    # each needs about 1.25 GB
    (memory.GIB, True, 1),        # there is no room
])  # fmt: skip
def test_workers_are_added_where_there_is_memory(
    free, steady, started, begin, tmp_path, monkeypatch, capsys
):
    supervisor = Supervisor(begin(tmp_path / "s", workers=3))
    monkeypatch.setattr(memory, "available", lambda: free)
    monkeypatch.setattr(
        "kerasft.sweeps.supervisor.Gauge",
        lambda pid: SimpleNamespace(most=memory.GIB, steady=steady, look=lambda: None),
    )
    monkeypatch.setattr(supervisor, "_start", lambda slot: SimpleNamespace(pid=slot))
    for _ in range(3):
        supervisor._add_workers()
    assert len(supervisor.workers) == started
    said = capsys.readouterr().err
    assert ("1 of 3 workers run: another would take about 1.2 GB, and 1.0 GB" in said) == (
        free == memory.GIB
    )
    assert said.count("workers run") <= 1


def test_studies_of_one_database_do_not_mix(begin, tmp_path):
    """Two sweeps in folders of the same name are two studies; passwords are not shown."""
    url = f"sqlite:///{tmp_path / 'all.db'}"
    mine = begin(tmp_path / "a" / "sweep", storage=url)
    mine.settle(mine.claim(), Outcome(DONE, values=[0.5]))
    other = begin(tmp_path / "b" / "sweep", storage=url)
    assert other.counts()["done"] == 0
    again = ledgers.reopen(tmp_path / "a" / "sweep")
    assert again.counts()["done"] == 1
    assert without_password("postgresql://me:a:b@host/db") == "postgresql://me:***@host/db"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
