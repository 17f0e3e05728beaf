"""Sweeps over the tiny networks."""

from __future__ import annotations

from pathlib import Path

import pytest


def make_ledger(folder: Path, overrides=("head=linear,mlp", "batch_size=4,8"), **search):
    """Begin a sweep whose trials nobody carries out."""
    from kerasft.config import compose_search
    from kerasft.sweeps import ledger

    folder.mkdir(parents=True, exist_ok=True)
    asked = compose_search(["sweep=random", "sweep.n_trials=4"]) | search
    return ledger.create(
        folder, list(overrides), asked, objectives=["accuracy"], directions=["maximize"],
        config_dirs=[], trusted=[],
    )  # fmt: skip


@pytest.fixture
def begin():
    """Return `make_ledger`."""
    return make_ledger
