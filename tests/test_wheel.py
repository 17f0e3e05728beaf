"""The wheel holds all that a run needs: configs, the carried preset, the licence."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # Without isolation nothing is fetched: hatchling stands in the dev group.
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out),
         str(ROOT)],
        capture_output=True, text=True, check=False,
    )
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("*.whl")
    return found


def test_wheel_holds_configs_and_preset(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {str(p.relative_to(ROOT / "conf")) for p in (ROOT / "conf").rglob("*.yaml")}
    assert len(shipped) > 30
    assert shipped == {
        n.removeprefix("kerasft/conf/") for n in names if n.startswith("kerasft/conf/")
    }
    assert "kerasft/presets/glyphs/model.weights.h5" in names
    assert "kerasft/serving/loader.c" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not any(n.startswith(("tests/", "scripts/")) for n in names)


@pytest.mark.slow
def test_wheel_runs_from_elsewhere(wheel, tmp_path):
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(place)
    # The wheel stands before the checkout on the path, and the working folder is empty.
    env = os.environ | {"PYTHONPATH": str(place), "TF_CPP_MIN_LOG_LEVEL": "3"}
    where = subprocess.run(
        [sys.executable, "-c",
         "import kerasft; from kerasft.config import composition; print(composition.config_dir())"],
        capture_output=True, text=True, env=env, cwd=tmp_path, check=True,
    )
    assert where.stdout.strip() == str(place / "kerasft" / "conf")
    ran = subprocess.run(
        [sys.executable, "-m", "kerasft", "train", "debug=quick", "baseline=null",
         "output_dir=run", "export=saved_model"],
        capture_output=True, text=True, env=env, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "run" / "exports" / "saved_model" / "1" / "saved_model.pb").is_file()
