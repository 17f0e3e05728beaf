"""What is settled before a run shares: a try of it, and the run that goes on."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from omegaconf import DictConfig

from kerasft.config.composition import load
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Backbone, Splits
from kerasft.steps.preparing import prepare
from kerasft.steps.preparing.prepare import Parts, Ready
from kerasft.system.files import at_home
from kerasft.system.terminal import status


@contextmanager
def tried(cfg: DictConfig) -> Iterator[None]:
    """Have something of a run tried inside the block, in silence; random numbers stay as they are.

    What is said meanwhile the run says once more.

    Args:
        cfg: The config.
    """
    from kerasft.training.randomness import undisturbed

    with undisturbed(), status.drawn_on(sys.stdout), redirect_stdout(io.StringIO()), \
            redirect_stderr(io.StringIO()), prepare.runtime(cfg):  # fmt: skip
        yield


@contextmanager
def rehearsed(cfg: DictConfig) -> Iterator[tuple[Parts, Splits, Backbone, Ready]]:
    """Make all parts of a run ready inside the block, in silence; random numbers stay as they are.

    Args:
        cfg: The config.
    """
    with tried(cfg):
        parts = prepare.cheap_parts(cfg)
        splits = prepare.read_data(cfg, parts, None)
        backbone = prepare.load_backbone(cfg, splits)
        yield parts, splits, backbone, prepare.make_ready(cfg, parts, splits, backbone)


def gone_on_with(cfg: DictConfig) -> tuple[RunFolder, DictConfig] | None:
    """Return the folder and config of the run that a config goes on with, if there is one."""
    if not cfg.resume or cfg.output_dir is None:
        return None
    folder = RunFolder(at_home(cfg.output_dir))
    return (folder, load(folder.config)) if folder.config.is_file() else None
