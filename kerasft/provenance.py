"""What decides a run's result beside its config and data: versions, machine, revision."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from kerasft.threads import cores

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


def git_revision() -> str | None:
    """Return the git revision of the folder one works in, with `+changes` where there are any."""

    def ask(*arguments: str) -> str | None:
        try:
            asked = subprocess.run(
                ["git", *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return asked.stdout.strip()

    revision = ask("rev-parse", "HEAD")
    return revision and revision + ("+changes" if ask("status", "--porcelain", "-uno") else "")
