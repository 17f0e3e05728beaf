"""The command line: help, exit statuses, speed, and a message for each of the user's mistakes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

import kerasft
from kerasft.commands import make_parser

COMMANDS = (
    "train", "launch", "show", "lr-find", "sweep", "resume", "evaluate", "diagnose", "predict",
    "export", "verify", "bench", "serve", "check", "surgery", "probe", "explain",
   "models", "cache", "leaderboard",
)  # fmt: skip


def fresh(*argv: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "kerasft", *argv],
        capture_output=True, text=True, timeout=120, **settings,
    )  # fmt: skip


# --- help --------------------------------------------------------------------------------------


def test_these_are_the_commands():
    choices = make_parser()._subparsers._group_actions[0].choices
    assert tuple(choices) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(kerasft_cli, command):
    said = kerasft_cli(command, "--help")
    assert said.code == 0
    assert "example:" in said.out
    assert f"  kerasft {command}" in said.out


def test_help_lists_the_commands(kerasft_cli):
    said = kerasft_cli("--help")
    assert said.code == 0
    listed = [line.split()[0] for line in said.out.splitlines() if line.startswith("    ")]
    assert [word for word in listed if word in COMMANDS] == list(COMMANDS)


def test_version(kerasft_cli):
    assert kerasft_cli("--version").out.strip() == f"kerasft {kerasft.__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_in_help_parse(kerasft_cli, command):
    import shlex

    text = kerasft_cli(command, "--help").out.split("example:\n")[1].replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "kerasft"
        assert make_parser().parse_known_args(words)[0].command == command


# --- speed -------------------------------------------------------------------------------------


@pytest.mark.every(2)
@pytest.mark.parametrize(
    "argv",
    [["--help"], ["train", "--help"], ["check", "head=mlp", "finetune=two_phase"],
     ["explain", "head=mlp"], ["models"], ["cache"]],
    ids=lambda argv: " ".join(argv),
)  # fmt: skip
def test_answers_at_once_and_without_tensorflow(argv, tiny_text_run):
    code = (
        "import sys\nfrom kerasft.cli import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as ended:\n    code = ended.code\n"
        "heavy = {'tensorflow', 'keras', 'keras_hub', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert code == 0, code\n"
    )
    seconds = []
    for _ in range(3):  # the quickest counts
        begun = _of_children()
        ended = subprocess.run(
            [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=120,
            cwd=tiny_text_run,
        )  # fmt: skip
        seconds.append(_of_children() - begun)
        assert ended.returncode == 0, ended.stderr
        if seconds[-1] < 1:
            break
    assert min(seconds) < 2


def _of_children() -> float:
    """Return the processor's seconds of all processes that have ended: others may be at work."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("argv", [["train", "head.widht=3"], ["leaderboard", "nowhere"]])
def test_a_mistake_is_told_before_tensorflow_is_imported(argv):
    code = (
        f"import sys\nfrom kerasft.cli import main\ncode = main({argv})\n"
        "assert code == 2, code\nassert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.every(6)
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["tarin"], "invalid choice: 'tarin'"),
        (["train", "--epochs", "3"], "unknown option --epochs"),
        (["predict", "run"], "the following arguments are required: INPUT"),
        (["models", "a", "b"], "unknown argument b"),
        (["leaderboard"], "the following arguments are required: DIR"),
        (["train", "epoch=3"], "Did you mean 'epochs'?"),
        (["train", "epochs"], "An override must read key=value"),
        (["train", "--config-dir", "nowhere"], "--config-dir must name a folder"),
        (["train", "--from", "nowhere"], "no run folder"),
        (["train", "-m", "--from", "x"], "cannot be joined with -m"),
        (["train", "-m", "head=linear,mpl"], "Did you mean 'mlp'?"),
        (["check", "head=mlp", "head.widht=3"], "Did you mean 'width'?"),
        (["check", "callbacks.x._target_=os.system"], "is refused"),
        (["explain", "hed"], "Did you mean 'head'?"),
        (["models", "no such"], "No network matches"),
        (["leaderboard", "nowhere"], "There is no folder 'nowhere'"),
        (["leaderboard", "."], "There is no run below '.'"),
        (["cache", "clear", "nonsense"], "invalid choice: 'nonsense'"),
        (["evaluate", "nowhere"], "There is no run folder 'nowhere'"),
        (["evaluate", "."], "is no run folder"),
        (["evaluate", ".", "split=all"], "split=train, split=validation or split=test"),
        (["evaluate", ".", "epochs=3"], "split=train, split=validation or split=test"),
        (["evaluate", ".", "slices=[a"], "slices must name columns of the data"),
        (["export", "nowhere"], "There is no run folder 'nowhere'"),
        (["export", "."], "is no run folder"),
        (["predict", "nowhere", "a text"], "nowhere"),
        (["predict", ".", "a text"], "There is no export at '.'"),
        (["predict", ".", "a", "--output", "x.txt"], "--output must end in .csv, .jsonl or"),
        (["show", "--count", "0"], "--count must be at least 1. Received: 0"),
        (["show", "--views", "0"], "--views must be at least 1. Received: 0"),
        (["show", "--epoch", "-1"], "--epoch must be at least 0. Received: -1"),
        (["show", "--output", "x.jpg"], "must end in .png for images or .txt for texts"),
        (["show", "--output", "nowhere/x.png"], "there is no folder 'nowhere'"),
        (["show", "--output", "x.txt"], "data is images, for which --output must end in .png"),
        (["show", "data=image_folder", "data.path=nowhere"], "nowhere"),
        (["show", "augment=strogn"], "Did you mean 'strong'?"),
        (["train", "data=image_folder", "data.path=nowhere"], "nowhere"),
        (["train", "data=table", "data.path=no.csv", "data.text=a", "data.label=b"], "no.csv"),
        (["train", "backbone.preset=bert_tinny"], "backbone.preset"),
        (["train", "batch_size=1000"], "batch_size must not be larger than the training split"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_gets_one_message_and_status_2(kerasft_cli, argv, said):
    ended = kerasft_cli(*argv)
    assert ended.code == 2
    assert said in ended.err
    assert ended.out == "" or ended.out.startswith(("data:", "sweep:"))


def test_several_mistakes_are_counted(kerasft_cli):
    ended = kerasft_cli("check", "epochs=0", "head.widht=1", "precision=half")
    assert ended.code == 2
    assert ended.err.startswith("error: 3 problems\n  - ")
    assert len(ended.err.splitlines()) == 4


def test_without_a_traceback_in_a_process_of_its_own(tmp_path):
    ended = fresh("train", "epochs=three", "head=mpl", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: 2 problems\n")
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_status_130(kerasft_cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kerasft.catalogue.networks.models", interrupted)
    ended = kerasft_cli("models")
    assert ended.code == 130
    assert ended.err == "interrupted\n"


def test_a_closed_pipe_is_no_mistake():
    ended = subprocess.run(
        f"{sys.executable} -m kerasft models | head -n 1", shell=True, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert ended.stdout.startswith("name")
    assert ended.stderr == ""


# --- check and show ----------------------------------------------------------------------------


def test_check_says_that_all_is_well(kerasft_cli):
    said = kerasft_cli("check", "head=mlp").out
    checked, unchecked = said.split("Not checked:\n")
    assert checked.startswith("Checked:\n  - the config: every key, value and name of a part\n")
    assert "the data is images, and the backbone takes images" in checked
    assert "the weights of the backbone" in unchecked and "sound" not in said


def test_check_shows_the_config(kerasft_cli):
    from omegaconf import OmegaConf

    shown = OmegaConf.create(kerasft_cli("check", "head=mlp", "epochs=3", "--show").out)
    assert shown.epochs == 3
    assert shown.head._target_ == "kerasft.model.heads.pooled.mlp"


def test_a_trusted_prefix_is_found_in_the_current_folder(kerasft_cli, tmp_path, monkeypatch):
    (tmp_path / "ownparts.py").write_text("def head(features, *, units, width: int = 3): ...\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["~head", "+head={_target_: ownparts.head}"]
    assert "is refused" in kerasft_cli("check", *words).err
    assert kerasft_cli("check", "--trust", "ownparts", *words).code == 0


def test_the_current_folder_hides_nothing_that_is_installed(kerasft_cli, tmp_path, monkeypatch):
    (tmp_path / "ownparts.py").write_text("def head(features, *, units, width: int = 3): ...\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert kerasft_cli("check", "--trust", "keras.callbacks.CSVLogger", "head=mlp").code == 0
    assert str(tmp_path) not in sys.path  # what is trusted is installed
    assert kerasft_cli("check", "--trust", "ownparts", "head=mlp").code == 0
    assert sys.path[-1] == str(tmp_path)


def test_no_plugin_of_the_current_folder_is_imported(tmp_path):
    (tmp_path / "ownparts.py").touch()
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    line = "import sys; from kerasft.cli import main; sys.exit(main())"
    for words in (["check", "--trust", "ownparts"], ["explain", "--config-dir", ".", "head"]):
        done = subprocess.run([sys.executable, "-P", "-c", line, *words], cwd=tmp_path, text=True,
                              capture_output=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mark").exists()


def test_options_and_overrides_mix(kerasft_cli):
    ended = kerasft_cli("check", "head=mlp", "--show", "epochs=3", "head.width=8")
    assert ended.code == 0
    assert "width: 8" in ended.out


# --- predict -----------------------------------------------------------------------------------


def test_predict_reads_words_files_and_standard_input(kerasft_cli, tiny_text_run, tmp_path,
                                                      monkeypatch):  # fmt: skip
    import io
    import json

    (tmp_path / "texts.txt").write_text("a good film\na bad film\n", "utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a dull film\n"))
    ended = kerasft_cli(
        "predict", str(tiny_text_run), "a fine film", "@texts.txt", "-", "--json"
    )
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [r["input"] for r in rows] == [
        "a fine film", "a good film", "a bad film", "a dull film"
    ]  # fmt: skip
    assert all(sum(r["probabilities"].values()) == pytest.approx(1) for r in rows)


@pytest.mark.slow
def test_predict_writes_files(kerasft_cli, tiny_text_run, tmp_path):
    import csv
    import json

    run = str(tiny_text_run)
    assert kerasft_cli("predict", run, "a, b", "c", "--output", "x.csv").code == 0
    assert kerasft_cli("predict", run, "a, b", "c", "--output", "x.jsonl").code == 0
    with open(tmp_path / "x.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [r["input"] for r in rows] == [r["input"] for r in lines] == ["a, b", "c"]
    assert float(rows[0]["probabilities_pos"]) == pytest.approx(lines[0]["probabilities"]["pos"])


def test_predict_says_what_it_cannot_read(kerasft_cli, tiny_run, tiny_text_run, tmp_path):
    assert "There is no image 'no.png'" in kerasft_cli("predict", str(tiny_run), "no.png").err
    (tmp_path / "empty").mkdir()
    assert "There is no image in the folder" in kerasft_cli(
        "predict", str(tiny_run), "empty").err  # fmt: skip
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nonsense")
    ended = kerasft_cli("predict", str(tiny_run), "broken.png")
    assert ended.code == 2
    assert "broken.png" in ended.err
    ended = kerasft_cli("predict", str(tiny_text_run), "@nowhere.txt")
    assert ended.code == 2
    assert "nowhere.txt" in ended.err
    (tmp_path / "none.txt").touch()
    assert kerasft_cli("predict", str(tiny_text_run), "@none.txt").code == 2


# --- the console -------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.slow
def test_a_run_in_a_process_of_its_own(tiny_texts, tmp_path):
    """Writes into a pipe: no control characters, no chatter, one line an epoch."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    environment["TF_USE_LEGACY_KERAS"] = "1"  # as Ray sets it: no Keras 3 could be imported
    ended = fresh("train", *tiny_texts, "epochs=2", "max_steps=2", "name=small", cwd=tmp_path,
                  env=environment)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert not set(ended.stdout) & {"\r", "\x1b", "\x08"}
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("data: 44 train, 8 validation, 8 test; 2 classes (neg, pos)")
    assert sum(line.startswith("epoch ") for line in lines) == 1
    assert (tmp_path / "outputs" / "last" / "metrics.json").is_file()
    last = (tmp_path / "outputs" / "last").resolve()
    assert lines[-1] == f"run folder: {os.path.relpath(last, tmp_path)}"
    shutil.rmtree(tmp_path / "outputs")


def test_the_cache_is_listed_and_cleared(kerasft_cli, tmp_path):
    from kerasft.system.cache import Cache

    def fill(folder):
        (folder / "data.bin").write_bytes(b"x" * 2_500_000)

    for kind in ("texts", "activations"):
        Cache(tmp_path).get(
            kind, {}, write=fill, read=lambda folder: None, about="12 examples of mine"
        )
    where = ("--directory", str(tmp_path))
    listed = kerasft_cli("cache", *where)
    assert listed.code == 0
    assert listed.out.count("12 examples of mine") == 2
    assert f"2 entries, 5.0 MB, in {str(tmp_path)!r}" in listed.out
    assert [e["kind"] for e in json.loads(kerasft_cli("cache", *where, "--json").out)] == [
        "activations", "texts",
    ]  # fmt: skip
    assert "removed 1 entry, 2.5 MB" in kerasft_cli("cache", "clear", "texts", *where).out
    assert "removed 1 entry" in kerasft_cli("cache", "clear", *where).out
    assert kerasft_cli("cache", *where).out.startswith("0 entries, 0.0 MB")


@pytest.mark.parametrize("command", [
    ("evaluate",), ("resume",), ("export",), ("leaderboard",), ("cache", "--directory"),
    ("train", "--from"), ("verify",), ("check", "backbone=preset"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["x" * 300, "a\0b", ""])
def test_a_name_that_no_file_can_have_is_told(kerasft_cli, command, name):
    argv = [*command, name]
    if command[0] == "check":
        argv = [*command, "data=digits", f"backbone.preset='{name}'"]
    if name == "" and command[0] not in ("train", "evaluate", "resume", "export"):
        return  # the current folder
    said = kerasft_cli(*argv)
    assert said.code == 2 and said.err.startswith("error: ")
