"""Versions, machine and Git revision of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kerasft.system.tf_data import cores

PACKAGES = ("kerasft", "tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy", "hydra-core")


def changed(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Say what is otherwise than before."""
    return ", ".join(
        f"{name} {then.get(name, 'missing')} -> {now.get(name, 'missing')}"
        for name in sorted({*then, *now}) if then and then.get(name) != now.get(name)
    )


def versions() -> dict[str, str]:
    """Return the versions that decide a run's result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what of the machine may decide a result's last bits."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = next(iter(names), processor)
    found: dict[str, Any] = {
        "platform": platform.platform(), "cores": cores(), "processor": processor,
    }
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            found[name] = os.environ[name]
    if gpus := _gpus():
        found["gpus"] = ", ".join(gpus)
    return found


def _gpus(driver: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Return the names of NVIDIA's devices, as their driver on Linux tells them."""
    named = []
    for file in sorted(driver.glob("*/information")):
        with suppress(OSError):
            lines = (line.partition(":") for line in file.read_text("utf-8").splitlines())
            named += [value.strip() for key, _, value in lines if key == "Model"]
    return named


# Settings of a repository by which git runs nothing while it compares files; others may.
_HARMLESS = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|worktree|logallrefupdates|ignorecase"
    r"|precomposeunicode|symlinks|autocrlf|eol|safecrlf|quotepath|fsmonitor|hookspath"
    r"|untrackedcache|preloadindex|sparsecheckout|sparsecheckoutcone|abbrev|compression)"
    r"|extensions\.(objectformat|worktreeconfig|refstorage)"
    r"|remote\..*\.(url|fetch|pushurl|tagopt|prune|prunetags|mirror|skipfetchall|gh-resolved)"
    r"|(advice|alias|branch|color|fetch|gc|gui|init|merge|pull|push|rebase|submodule|user)\..*",
    re.DOTALL,
)
# What some of these would run is switched off. No submodule is entered: it has its own settings.
_RUNS_NOTHING = (
    "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}",
    "-c", "safe.bareRepository=explicit",
)  # fmt: skip
# Nothing is fetched, and the index is not written, which would call a hook.
_KEEPS_STILL = {
    "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip


def git_revision() -> str | None:
    """Return the git revision of the folder one works in, and whether its files are as there.

    The folder may be anybody's, and git runs what a repository's settings name. Where a setting
    might, files are not compared.

    Returns:
        The revision; with `+changes` where a file was changed, with `+unchecked` where the
        repository's settings might run something. `None` where there is none.
    """
    revision = _ask_git("rev-parse", "HEAD")
    if not revision:
        return None
    listed = _ask_git("config", "--list", "--show-scope", "--name-only", "-z")
    if listed is None or not all(map(_is_harmless, _pairs(listed))):
        return f"{revision}+unchecked"
    changes = _ask_git("status", "--porcelain", "-uno", "--ignore-submodules=dirty")
    return revision + ("+changes" if changes else "" if changes is not None else "+unchecked")


def _ask_git(*arguments: str) -> str | None:
    try:
        asked = subprocess.run(
            ["git", *_RUNS_NOTHING, *arguments], capture_output=True, text=True, errors="replace",
            timeout=10, check=True, env={**os.environ, **_KEEPS_STILL}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


def _pairs(listed: str) -> Iterator[tuple[str, str]]:
    """Yield the scope and the name of each setting."""
    words = listed.split("\0")
    return zip(words[::2], words[1::2], strict=False)


def _is_harmless(setting: tuple[str, str]) -> bool:
    scope, name = setting
    return scope not in ("local", "worktree") or bool(_HARMLESS.fullmatch(name))
