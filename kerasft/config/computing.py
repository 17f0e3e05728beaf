"""What `deterministic`, `jit_compile` and `prefetch_to_device` go with, in words of a config."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from kerasft.errors import nearest

# A YAML's `true` is a bool, and its "true" a text.
DETERMINISTIC = ("auto", True, False)


def problems(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with how a run computes.

    Args:
        cfg: A config without interpolations.
    """
    if cfg.deterministic not in DETERMINISTIC:
        names = ["auto", "true", "false"]
        yield "deterministic", (
            f"deterministic must be one of {', '.join(names)}. Received: {cfg.deterministic!r}."
            + nearest(str(cfg.deterministic), names)
        )
    elif cfg.jit_compile and cfg.deterministic is not False:
        yield "jit_compile", (
            "jit_compile=true needs deterministic=false: Keras compiles nothing by XLA where "
            "operations must compute the same bits each time. Received: "
            f"deterministic={str(cfg.deterministic).lower()}."
        )
    if cfg.distribute is None:
        return
    if cfg.jit_compile:
        yield "jit_compile", (
            "jit_compile=true compiles the step of one device, and XLA cannot compile what several "
            f"do together. Leave it out. Received: distribute={cfg.distribute}."
        )
    if cfg.prefetch_to_device:
        yield "prefetch_to_device", (
            "prefetch_to_device=true copies batches to one device, and several get their shares by "
            f"themselves. Leave it out. Received: distribute={cfg.distribute}."
        )
