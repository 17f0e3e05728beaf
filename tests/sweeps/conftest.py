"""Sweeps over the tiny networks, and a server of PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def make_ledger(folder: Path, overrides=("head=linear,mlp", "batch_size=4,8"), *,
                objectives=("accuracy",), **search):  # fmt: skip
    """Begin a sweep whose trials nobody carries out."""
    from kerasft.config.composition import compose_search
    from kerasft.sweeps import beginning
    from kerasft.sweeps.objectives import directions

    folder.mkdir(parents=True, exist_ok=True)
    asked = compose_search(["sweep=random", "sweep.n_trials=4"]) | search
    return beginning.create(
        folder, list(overrides), asked, objectives=list(objectives),
        directions=directions(objectives), config_dirs=[], trusted=[],
    )  # fmt: skip


@pytest.fixture
def begin():
    """Return `make_ledger`."""
    return make_ledger


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a database of a server of our own, which is reached through a file."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else shutil.which("initdb")
    if not initdb:
        pytest.skip("no server of PostgreSQL (Debian's package is called postgresql)")
    as_user = {}
    folder = Path(tempfile.mkdtemp(prefix="kerasft-pg-", dir="/tmp"))  # a short path
    if os.geteuid() == 0:  # which the server refuses to run as
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(folder, "postgres")
        as_user = {"user": "postgres", "cwd": folder}
    told = {"check": True, "capture_output": True, **as_user}
    data, control = folder / "data", str(Path(initdb).with_name("pg_ctl"))
    subprocess.run([str(initdb), "-D", data, "-A", "trust", "-U", "kerasft", "--no-sync"], **told)
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    subprocess.run([control, "-D", data, "-o", options, "-l", folder / "log", "-w", "start"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)
    yield f"postgresql+psycopg://kerasft:secret@/postgres?host={folder}"
    subprocess.run([control, "-D", data, "-m", "immediate", "-w", "stop"], **told)
    shutil.rmtree(folder, ignore_errors=True)
