"""Whose code raised: told by the package's own folder, whatever the folders above are called."""

from __future__ import annotations

import pytest

from kerasft.config import building, frames
from kerasft.config.frames import PACKAGE, innermost, is_ours
from kerasft.errors import UserError

CLONE = PACKAGE.parent


def raised_in(filename):
    """Return an exception that code compiled as `filename` raised."""
    try:
        exec(compile("raise ValueError('no')", str(filename), "exec"), {})
    except ValueError as error:
        return error


@pytest.mark.parametrize("filename", [
    "/home/me/kerasft/.venv/lib/python3.12/site-packages/keras/src/optimizers/base.py",
    "/home/me/kerasft/my_heads.py",
    "/home/kerasft/env/lib/python3.12/site-packages/numpy/core.py",
    CLONE / ".venv/lib/python3.12/site-packages/keras/src/optimizers/base.py",
    CLONE / ".venv/lib/python3.12/site-packages/kerasft_heads/config.py",
    PACKAGE / ".venv/lib/python3.12/site-packages/keras/src/layers/core/dense.py",
    CLONE / "kerasft_other/config.py",
    "<string>",
    "",
])  # fmt: skip
def test_code_of_others_is_foreign_wherever_it_lies(filename):
    error = raised_in(filename)
    assert innermost(error.__traceback__) == str(filename)
    assert not is_ours(str(filename))
    assert building._raised_by_call(error), "the user's values were refused"


@pytest.mark.parametrize("name", ["spec.py", "model/heads.py", "my_config.py", "data/config.py"])
def test_code_of_the_package_is_ours(name):
    error = raised_in(PACKAGE / name)
    assert is_ours(str(PACKAGE / name))
    assert not building._raised_by_call(error), "a fault of ours keeps its traceback"


def test_a_path_through_a_link_is_the_same_file(tmp_path, monkeypatch):
    (tmp_path / "kerasft").symlink_to(PACKAGE, target_is_directory=True)
    assert is_ours(str(tmp_path / "kerasft" / "spec.py"))
    real = tmp_path / "real" / "kerasft"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    monkeypatch.setattr(frames, "PACKAGE", real.resolve())
    assert is_ours(str(tmp_path / "link" / "kerasft" / "spec.py"))
    assert not is_ours(str(tmp_path / "link" / "keras" / "spec.py"))


def test_no_traceback_is_nobodys():
    assert innermost(None) == ""


def test_what_a_constructor_refuses_is_a_users_mistake(tmp_path, monkeypatch):
    place = tmp_path / "kerasft" / ".venv" / "lib" / "site-packages"
    place.mkdir(parents=True)
    (place / "far_part.py").write_text("def part(size):\n    raise ValueError('size is odd')\n")
    monkeypatch.syspath_prepend(str(place))
    with pytest.raises(UserError, match="size is odd"):
        building.build({"_target_": "far_part.part", "size": 3})


@pytest.mark.parametrize(("node", "kind"), [
    ({"_target_": "keras.layers.RandomRotation", "factor": 0.1, "fill_mode": "zeros"},
     "NotImplementedError"),
    ({"_target_": "keras.layers.RandomZoom", "height_factor": 0.1, "interpolation": "cubic"},
     "NotImplementedError"),
    ({"_target_": "keras.layers.Equalization", "value_range": -1}, "AttributeError"),
    ({"_target_": "keras.layers.Pipeline", "layers": [{
        "_target_": "keras.layers.RandomShear", "fill_mode": "zeros"}]}, "fill_mode"),
    ({"_target_": "keras.optimizers.MultiOptimizer", "optimizer_map": {"a": 1}}, "AttributeError"),
])  # fmt: skip
def test_keras_may_refuse_values_by_any_exception(node, kind):
    with pytest.raises(UserError, match=kind) as caught:
        building.build(building.as_config({"augment": {"x": node}})["augment"]["x"])
    assert str(caught.value).startswith("augment.x")


def test_what_a_disk_or_a_part_of_ones_own_raises_is_no_refusal(tmp_path, monkeypatch):
    (tmp_path / "own_part.py").write_text(
        "def part(error):\n    raise {'io': OSError(28, 'full'), 'key': KeyError('x')}[error]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, kind in (("io", OSError), ("key", KeyError)):
        with pytest.raises(kind):
            building.build({"_target_": "own_part.part", "error": name})
