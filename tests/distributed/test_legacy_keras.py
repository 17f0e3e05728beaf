"""`TF_USE_LEGACY_KERAS=1`, which Ray sets for its workers, does not reach Keras."""

import os
import subprocess
import sys

import pytest


def python(code, **settings):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True, text=True, timeout=120, **settings,
    )  # fmt: skip


def test_it_is_gone_once_kerasft_is_there():
    done = python("import os, kerasft; print(os.environ.get('TF_USE_LEGACY_KERAS'))")
    assert done.stdout == "None\n", done.stderr


@pytest.mark.slow
def test_a_run_after_tensorflow_was_imported(tiny_texts, tmp_path):
    words = [*tiny_texts, "epochs=1", "max_steps=2", "floor=none"]
    done = python(f"import tensorflow, kerasft\nkerasft.train({words!r})", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "outputs" / "last" / "metrics.json").is_file()
