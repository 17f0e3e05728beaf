"""What tests of several files need is made by the first process that asks for it, and once."""

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What training returned, of the runs that this process trained itself.
_returned: dict[str, Any] = {}


def made_once(tmp_path_factory: Any, name: str, make: Callable[[Path], Any]) -> Path:
    """Return a folder that is made once, whichever test process needs it first.

    Args:
        tmp_path_factory: Pytest's.
        name: The name of the folder, the same in all processes.
        make: Fills the folder, which is there and empty, when nobody has.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # that of all processes
    folder, ready = root / "once" / name, root / "once" / f"{name}.ready"
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            ready.touch()
    return folder


def trained_once(tmp_path_factory: Any, name: str, *words: str) -> Path:
    """Return the folder of a run that is trained once, whichever test process needs it first.

    The figures that training returned lie beside it, see `returned_figures`.
    """
    import kerasft

    def train(folder: Path) -> None:
        _returned[name] = kerasft.train([*words, f"output_dir={folder / 'run'}"])
        (folder / "figures.pickle").write_bytes(pickle.dumps(_returned[name].metrics))

    return made_once(tmp_path_factory, name, train) / "run"


def returned_figures(run: Path) -> Any:
    """Return the `metrics` that training returned for a run of `trained_once`."""
    return pickle.loads((run.parent / "figures.pickle").read_bytes())


def returned(tmp_path_factory: Any, name: str, *words: str) -> Any:
    """Return what training returned, which is no folder: another process may have `trained_once`.

    Args:
        tmp_path_factory: Pytest's.
        name: The name that the run has in `trained_once`, which was called before.
        *words: The overrides of the run, but those that change no result.
    """
    import kerasft

    if name not in _returned:
        folder = tmp_path_factory.mktemp("again") / name
        _returned[name] = kerasft.train([*words, f"output_dir={folder}"])
    return _returned[name]
