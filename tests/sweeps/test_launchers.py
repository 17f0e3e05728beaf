"""What a launcher is given: no line of a script, and from a folder no more than sizes and names."""

from __future__ import annotations

import pytest

from kerasft.errors import UserError
from kerasft.sweeps import batches, launchers, search
from kerasft.sweeps.settings import require_sound

BREAKS = ["\n", "\r", "\x00", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
PLACES = {
    "a value": lambda text: {"partition": text},
    "a name": lambda text: {"name": text},
    "a comment": lambda text: {"comment": text},
    "a list": lambda text: {"setup": ["module load cuda", text]},
    "a mapping": lambda text: {"additional_parameters": {"mail-user": text}},
    "a key": lambda text: {"additional_parameters": {text: "x"}},
    "a key of settings": lambda text: {text: 1},
    "the environment": lambda text: {
        "ray": {"remote": {"runtime_env": {"env_vars": {"A": text}}}}},
    "a key of the environment": lambda text: {
        "ray": {"remote": {"runtime_env": {"env_vars": {text: "1"}}}}},
    "a folder": lambda text: {"submitit_folder": text},
    "deep inside": lambda text: {"ray": {"init": [{"a": [[{"b": text}]]}]}},
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["submitit_slurm", "submitit_local", "joblib", "ray", "other"])
def test_no_setting_of_any_launcher_breaks_a_line(place, name):
    for letter in BREAKS:
        settings = PLACES[place](f"gpu{letter}touch mark #")
        (told,) = launchers.problems({"name": name, "settings": settings})
        assert "line breaks" in told and len(told.splitlines()) == 1
        assert not list(launchers.problems({"name": name, "settings": PLACES[place]("gpu")}))


@pytest.mark.parametrize("override", [
    'launcher.settings.partition="gpu\ntouch mark #"', '+launcher.settings.partition="gpu\r"',
    '+launcher.settings.additional_parameters={a: "gpu\u2028"}',
])  # fmt: skip
def test_nor_from_the_command_line(override, kerasft_cli, tmp_path):
    plus = override if override.startswith("+") else f"+{override}"
    done = kerasft_cli("sweep", "head=linear,mlp", "launcher=submitit_slurm", plus,
                       f"output_dir={tmp_path / 's'}")  # fmt: skip
    assert done.code == 2 and "may hold no line breaks" in done.err
    assert not (tmp_path / "s").exists()


def test_nor_from_a_folder_of_configs(kerasft_cli, tmp_path):
    (tmp_path / "conf" / "launcher").mkdir(parents=True)
    (tmp_path / "conf" / "launcher" / "mine.yaml").write_text(
        'name: submitit_slurm\nsettings:\n  partition: "gpu\\ntouch mark #"\n'
    )
    done = kerasft_cli("sweep", "head=linear,mlp", "launcher=mine",
                       f"--config-dir={tmp_path / 'conf'}",
                       f"output_dir={tmp_path / 's'}")  # fmt: skip
    assert done.code == 2 and "launcher.settings.partition may hold no line breaks" in done.err


def test_nor_by_the_name_of_the_folder(begin, tmp_path):
    ledger = begin(tmp_path / "s\ntouch mark #", launcher={"name": "basic", "settings": {}})
    with pytest.raises(UserError, match="takes no folder whose name holds line breaks"):
        batches.through_hydra(ledger)


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "settings"), [
    ("submitit_slurm", {"submitit_folder": "/elsewhere"}), ("submitit_slurm", {"setup": ["x"]}),
    ("submitit_slurm", {"srun_args": ["--task-prolog=x"]}), ("submitit_slurm", {"python": "x"}),
    ("submitit_slurm", {"additional_parameters": {"prolog": "x"}}),
    ("submitit_slurm", {"partition": "gpu' $(touch mark)"}),
    ("submitit_slurm", {"partition": "a`b`"}), ("submitit_slurm", {"comment": ["a"]}),
    ("submitit_local", {"submitit_folder": "/elsewhere"}), ("joblib", {"backend": "dask"}),
    ("joblib", {"temp_folder": "/elsewhere"}), ("joblib", {"pre_dispatch": "evil()"}),
    ("ray", {"ray": {"init": {"address": "ray://elsewhere"}}}),
])  # fmt: skip
def test_what_a_folder_may_not_say(name, settings, begin, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "go_on", lambda ledger: pytest.fail("it goes on"))
    begin(tmp_path / "s", launcher={"name": name, "settings": settings})
    with pytest.raises(UserError, match=f"write elsewhere: {next(iter(settings))}"):
        search.take_up(str(tmp_path / "s"))


@pytest.mark.parametrize("name", ["ray_aws", "x"])
def test_a_launcher_that_nobody_knows_is_not_taken_from_a_folder(name, begin, tmp_path):
    begin(tmp_path / "s", launcher={"name": name, "settings": {}})
    with pytest.raises(UserError, match=f"names the launcher '{name}', which is not taken"):
        search.take_up(str(tmp_path / "s"))


@pytest.mark.every(3)
@pytest.mark.parametrize("name", ["joblib", "ray", "submitit_local", "submitit_slurm", None])
def test_what_is_shipped_and_plain_sizes_go_on(name, begin, tmp_path, monkeypatch):
    from kerasft.config.composition import compose_search

    told = []
    monkeypatch.setattr(search, "go_on", told.append)
    chosen = compose_search([f"launcher={name or 'workers'}"])["launcher"]
    if name == "submitit_slurm":
        chosen["settings"] |= {"partition": "gpu,long", "comment": "a sweep (mine)", "mem_gb": 3,
                               "constraint": "a100|v100", "gres": "gpu:2"}  # fmt: skip
    begin(tmp_path / "s", launcher=chosen)
    search.take_up(str(tmp_path / "s"))
    assert len(told) == 1


@pytest.mark.parametrize("launcher", [
    5, "joblib", [], {"name": 5}, {"name": "a b"}, {"name": "x\n"}, {"name": "é"},
    {"name": "joblib", "settings": []}, {"name": "joblib", "more": 1},
])  # fmt: skip
def test_what_is_no_launcher(launcher):
    from kerasft.config.composition import compose_search

    with pytest.raises(UserError, match=r"^launcher"):
        require_sound(compose_search([]) | {"launcher": launcher}, ())
