"""What the README and the documentation show can be run."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from kerasft.commands import make_parser
from kerasft.config.checks import settle
from kerasft.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
         if page.is_file()]  # fmt: skip


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in one of the languages."""
    found = re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", page.read_text("utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[str]:
    """Return the lines that call kerasft, those that go on after a backslash put together."""
    found = []
    for block in blocks(page, "sh", "bash", "console", "shell"):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^(?:\$ )?(?:[A-Z_]+=\S+ )?", "", line.strip())
            if line.startswith(("kerasft ", "python -m kerasft ")) or line == "kerasft":
                found.append(line)
    return found


COMMANDS = [(page, line) for page in PAGES for line in dict.fromkeys(commands(page))]
IDS = [f"{page.name}: {line[:60]}" for page, line in COMMANDS]
# README shows one command that is wrong, with what it says.
WRONG = "depht"


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return words[3:] if words[0] == "python" else words[1:]


def test_there_are_commands():
    assert PAGES
    in_readme = [line for page, line in COMMANDS if page.name == "README.md"]
    assert len(in_readme) >= 8
    assert len(COMMANDS) >= 10


@pytest.mark.every(4)
@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=IDS)
def test_a_command_parses_and_its_config_is_sound(page, line, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASFT_DATA", str(tmp_path))
    words = words_of(line)
    options, rest = make_parser().parse_known_args(words)
    assert not [word for word in rest if word.startswith("-")]
    if options.command == "probe":
        from kerasft.config.alternatives import alternatives

        sets = [shlex.split(one) for one in options.backbone]
        for choice in alternatives([*options.overrides, *rest], "backbone", sets):
            settle(list(choice.overrides), (), ())
        return
    if options.command not in ("train", "show", "lr-find", "check", "surgery", "explain"):
        return
    if getattr(options, "source", None):
        return
    if options.config_dir or getattr(options, "trust", None):
        return  # parts of the reader's own
    overrides = [*options.overrides, *rest]
    if options.command == "explain":
        from kerasft.config.explanation import explain

        assert explain(options.key, overrides)
        return
    if options.command == "show" and overrides[:1] == ["RUN"]:
        return  # its config was sound when it was trained
    if WRONG in line:
        with pytest.raises(UserError):
            settle(overrides, (), ())
        return
    if getattr(options, "multirun", False):
        from kerasft.sweeps.grid import expand

        runs = expand(overrides)
        assert len(runs) > 1
    else:
        runs = [overrides]
    for run in runs:
        settle(run, (), ())


def test_the_reference_has_every_group_and_its_choices():
    conf = ROOT / "conf"
    groups = {folder.name: {file.stem for file in folder.glob("*.yaml")}
              for folder in conf.iterdir() if folder.is_dir()}  # fmt: skip
    for name in ("sweep", "launcher"):  # of a sweep, not of a run: docs/sweeps.md
        del groups[name]
    text = (ROOT / "docs" / "reference.md").read_text("utf-8").split("\n## Metrics")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M)
    shown = {name: set(re.findall(r"`(\w+)`", choices)) for name, choices in rows}
    assert len(shown) == len(rows) > 15
    assert set(shown) == set(groups)
    shown["experiment"] = groups["experiment"]  # docs/results.md lists them
    assert shown == groups
    listed = (ROOT / "README.md").read_text("utf-8").split("The groups are ")[1].split(";")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(groups)


def test_every_command_of_the_line_is_shown():
    shown = {words_of(line)[0] for page, line in COMMANDS if page.name == "README.md"}
    text = (ROOT / "README.md").read_text("utf-8")
    for command in make_parser()._subparsers._group_actions[0].choices:
        assert command in shown or f"kerasft {command}" in text, command


def test_python_blocks_are_python_with_public_names():
    import kerasft

    found = [text for page in PAGES for text in blocks(page, "python")]
    assert found
    for text in found:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                    and node.value.id == "kerasft"):  # fmt: skip
                assert node.attr in kerasft.__all__, f"kerasft.{node.attr} in:\n{text}"


def test_files_that_are_named_are_there():
    seen = 0
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            seen += 1
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    assert seen


def test_the_suggested_networks_are_those_of_the_catalogue():
    import kerasft
    from kerasft.catalogue.suggested import SUGGESTED

    choices = {row["name"]: row["choose"] for row in kerasft.models()}
    for page in (ROOT / "README.md", ROOT / "docs" / "backbones.md"):
        text = page.read_text("utf-8")
        assert not [one.name for one in SUGGESTED if f"`{choices[one.name]}`" not in text]
