"""`batch_size=auto`: the largest batch that fits in memory, found before a run begins."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kerasft.config import auto_batch
from kerasft.config.auto_batch import ACCUMULATION, AUTO
from kerasft.data.manifest import read_manifest
from kerasft.runs.run_folder import RunFolder
from kerasft.steps.costs.memory import let_go
from kerasft.steps.costs.memory_trial import Fit, measure
from kerasft.steps.costs.rehearsal import gone_on_with, rehearsed
from kerasft.system.console import say, warn
from kerasft.system.terminal import status


def settle(cfg: DictConfig) -> None:
    """Find the largest batch that fits, where a config leaves that open, and write it into it.

    What is measured is a model of its own, before the run's: the run is the one whose config says
    the numbers that were found. A run that goes on keeps those that it began with.

    Args:
        cfg: The config, changed in place where it has `batch_size=auto`.

    Raises:
        UserError: For any mistake in the data or the parts.
    """
    if cfg.batch_size != AUTO or _took_up(cfg):
        return
    with rehearsed(cfg) as (parts, splits, backbone, ready), \
            status.showing("measuring memory ..."):  # fmt: skip
        found, moving = measure(cfg, parts, ready, backbone)
    del parts, splits, backbone, ready
    let_go()
    tell(cfg, found, moving)
    write(cfg, found)


def _took_up(cfg: DictConfig) -> bool:
    """Take the numbers of the run that goes on in the folder of a config, if there is one."""
    there = gone_on_with(cfg)
    if there is None:
        return False
    folder, then = there
    try:
        if not isinstance(then.batch_size, int) or not _is_same(then, cfg, folder):
            return False
        for key in _written(cfg):
            value = OmegaConf.select(then, key)
            if value is not None or OmegaConf.select(cfg, key) is not None:
                OmegaConf.update(cfg, key, value, force_add=True)
    except OmegaConfBaseException:  # whoever goes on with it tells what is wrong with it
        return False
    return True


def _is_same(then: DictConfig, now: DictConfig, folder: RunFolder) -> bool:
    """Whether an update of a run in a folder learns from as much as one of a config."""
    whole, wanted = then.effective_batch, now.effective_batch
    if whole is None or whole >= wanted:
        return bool(whole == wanted)
    if now.batch_tokens is not None:  # a number of tokens that cannot be divided is rounded down
        each = auto_batch.accumulated(then)
        return bool(whole == wanted // each * each)
    # Where there are not so many examples, it learns from all of them.
    manifest = folder.manifest
    return manifest.is_file() and whole == len(read_manifest(manifest)["splits"]["train"])


def _written(cfg: DictConfig) -> list[str]:
    """Return the keys that are set once the batch is known."""
    keys = ["batch_size", "effective_batch", f"optimizer.{ACCUMULATION}"]
    if cfg.batch_tokens is not None:
        keys.append("batch_tokens")
    return [*keys, *auto_batch.counted(cfg)]


def write(cfg: DictConfig, found: Fit) -> None:
    """Write into a config what was found. Numbers of steps count batches, and grow with them.

    Args:
        cfg: The config, changed in place.
        found: What was found.
    """
    before = auto_batch.accumulated(cfg)
    if cfg.batch_tokens is None:
        cfg.batch_size = found.size
    else:
        cfg.batch_size, cfg.batch_tokens = auto_batch.examples(cfg), found.size
    key = f"optimizer.{ACCUMULATION}"
    if found.each > 1 or OmegaConf.select(cfg, key) is not None:
        each = found.each if found.each > 1 else None
        OmegaConf.update(cfg, key, each, force_add=True)
    if found.each != before:
        for key, steps in auto_batch.counted(cfg).items():
            OmegaConf.update(cfg, key, max(round(steps * found.each / before), 1))
    auto_batch.keep_whole(cfg)


def tell(cfg: DictConfig, found: Fit, moving: Sequence[str]) -> None:
    """Say what was found, and what of it changes the result.

    Args:
        cfg: The config, before it is written into.
        found: What was found.
        moving: Layers whose statistics are those of a batch.
    """
    unit = "example" if cfg.batch_tokens is None else "token"
    one, whole = (f"{n:,} {unit}{'s' * (n != 1)}" for n in (found.size, found.size * found.each))
    peak = found.peaks.get(found.size)
    held = "" if peak is None else f" ({peak / 1e9:.1f} GB" + (
        f" of {found.limit / 1e9:.1f} GB)" if found.limit else ")"
    )
    say(f"batch_size=auto: {one}{held}" + (
        "; an update learns from all of them" if found.each == 1
        else f"; an update learns from {found.each} such batches, {whole}"
    ))  # fmt: skip
    if not found.suffices:
        warn(f"{one}, the smallest batch, may take more memory than there is. What takes less: a "
             "shorter backbone.sequence_length or smaller backbone.image_size; "
             "finetune=linear_probe; precision=mixed_bfloat16")  # fmt: skip
    if moving and found.each > 1:
        warn(f"batch normalization that trains ({moving[0]}"
             + (f" and {len(moving) - 1} more" if len(moving) > 1 else "")
             + f") goes by the statistics of {one}, not of {whole}: results "
             "differ from those of whole batches. batch_norm=frozen of the stage keeps them fixed")
