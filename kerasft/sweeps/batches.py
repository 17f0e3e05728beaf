"""Trials in batches, through any of Hydra's launchers: joblib, submitit, Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kerasft.console import say
from kerasft.errors import Stopped, UserError, in_short
from kerasft.sweeps.ledger import DONE, FAILED, Claim, Ledger, Outcome
from kerasft.sweeps.outcome import line_of
from kerasft.threads import cores

# Takes the overrides of some jobs and the number of the first; returns Hydra's `JobReturn`s.
Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]
# Launchers that run all jobs of a batch on this machine, where they would fight for its cores.
HERE = ("basic", "joblib", "submitit_local")
JOB = "kerasft_trial"


def run(
    ledger: Ledger, launch: Launch, *, size: int, overrides: Callable[[Claim], Sequence[str]],
    read: Callable[[Any], Outcome], pause: float = 1.0,
) -> None:
    """Carry a sweep out in batches.

    This process holds the trials of a batch as long as the launcher works on them; if it dies,
    whoever goes on with the sweep takes them up again.

    Args:
        ledger: The sweep.
        launch: Carries a batch out.
        size: How many trials a batch has.
        overrides: What a job is told of its trial.
        read: What a job came to, of what it returned.
        pause: Seconds between two looks while others are at work.

    Raises:
        Stopped: If a job was stopped, or the user stops the sweep.
        UserError: If too many trials failed.
    """
    while True:
        claims: list[Claim] = []
        while len(claims) < size and (claim := ledger.claim()) is not None:
            claims.append(claim)
        if not claims:
            if not ledger.counts()["running"]:
                break
            time.sleep(pause)  # others work on the rest, and may leave it behind
            continue
        for group in _in_rows(claims):
            try:
                returned = launch([overrides(claim) for claim in group], group[0].number)
            except BaseException as error:
                for claim in claims:
                    if claim.lock.is_locked:
                        ledger.put_back(claim)
                if isinstance(error, KeyboardInterrupt | Stopped):
                    raise _stopped(ledger, error) from None
                if isinstance(error, UserError) or not isinstance(error, Exception):
                    raise
                raise UserError(
                    f"The launcher could not carry a batch out: {in_short(error)}. The trials go "
                    f"on with: kerasft resume {ledger.path}"
                ) from error
            for claim, one in zip(group, returned, strict=True):
                ledger.settle(claim, read(one))
                say(line_of(ledger, ledger.trials()[claim.number]))
    ledger.require_few_failures()


def _in_rows(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Part trials into rows of numbers one after the other: launchers count from the first."""
    rows: list[list[Claim]] = []
    for claim in sorted(claims, key=lambda claim: claim.number):
        if rows and claim.number == rows[-1][-1].number + 1:
            rows[-1].append(claim)
        else:
            rows.append([claim])
    return rows


def _stopped(ledger: Ledger, error: BaseException) -> Stopped:
    counts = ledger.counts()
    made = Stopped(
        "SIGINT", error.code if isinstance(error, Stopped) else 130,
        where=f"with {counts['done']} trials done, {counts['pruned']} pruned and "
              f"{counts['running']} to be taken up again",
    )  # fmt: skip
    made.folder = str(ledger.path)
    return made


def through_hydra(ledger: Ledger) -> None:
    """Carry out a sweep of ours through the launcher that it names."""
    chosen = ledger.search["launcher"]
    launch = _launcher(ledger, chosen["name"], chosen.get("settings") or {})
    if chosen["name"] in HERE:
        os.environ.update(shared_threads(ledger.search["workers"]))
    run(
        ledger, launch, size=ledger.search["workers"], overrides=lambda c: [f"trial={c.number}"],
        read=_outcome,
    )  # fmt: skip


def shared_threads(workers: int) -> dict[str, str]:
    """Return the settings by which processes divide the cores among them."""
    if workers == 1:
        return {}
    share = str(max(cores() // workers, 1))
    return dict.fromkeys(
        ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), share
    )


def _launcher(ledger: Ledger, name: str, settings: Mapping[str, Any]) -> Launch:
    """Return the launcher of that name, made as `hydra.main` would make it."""
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import HydraContext, RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    node = {"sweep": str(ledger.path.resolve()), "trial": 0, "trust": list(ledger.trusted)}
    ConfigStore.instance().store(name=JOB, node=node)
    Plugins.instance()  # finds the launchers that are installed
    loader = ConfigLoaderImpl(config_search_path=create_config_search_path(None))
    try:
        cfg = loader.load_configuration(JOB, [
            # `disabled` would close the handlers, and mute the loggers, of whoever calls us.
            f"hydra/launcher={name}", "hydra/job_logging=none", "hydra/hydra_logging=none",
            f"hydra.sweep.dir={ledger.path.resolve()}/launched", "hydra.sweep.subdir=.",
            "hydra.output_subdir=null", f"hydra.job.name={JOB}",
        ], RunMode.MULTIRUN)  # fmt: skip
        for key, value in settings.items():
            OmegaConf.update(cfg, f"hydra.launcher.{key}", value, merge=True)
    except (HydraException, OmegaConfBaseException) as error:
        known = ", ".join(sorted(
            one.removesuffix(".yaml") for one in loader.get_group_options("hydra/launcher")
        ))
        raise UserError(
            f"launcher: {in_short(error)}. Installed launchers of Hydra: {known}. Received: "
            f"{name!r}. Others are extras: pip install 'kerasft[joblib]' (or submitit, ray)."
        ) from error
    HydraConfig.instance().set_config(cfg)
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    made = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=carry_out, config=cfg
    )
    return made.launch


def carry_out(cfg: Any) -> dict[str, Any]:
    """Train a trial in a job that a launcher began.

    Args:
        cfg: `sweep`, the sweep's folder, `trial`, a number, and `trust`, import prefixes.

    Returns:
        The fields of an `Outcome`: launchers carry plain values.

    Raises:
        Stopped: If a signal came.
    """
    from kerasft.sweeps import ledger as ledgers
    from kerasft.sweeps.worker import attempt, written_to

    ledger = ledgers.reopen(cfg.sweep, list(cfg.trust))
    began = time.monotonic()
    with written_to(ledger.log(cfg.trial)):
        outcome = attempt(ledger, cfg.trial)
    return {
        "state": outcome.state, "reason": outcome.reason, "values": list(outcome.values),
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def _outcome(returned: Any) -> Outcome:
    """Return what a job of ours came to."""
    try:
        return Outcome(**returned.return_value)
    except Stopped:
        raise
    except Exception as error:
        return Outcome(FAILED, f"{type(error).__name__}: {in_short(error)}")


def objectives_of(returned: Any, names: Sequence[str]) -> Outcome:
    """Return what a job of any application of Hydra came to: it returns its objectives.

    Args:
        returned: Hydra's `JobReturn`.
        names: The objectives' names. The function returns a number, or one for each, in order or
            by name.
    """
    try:
        value = returned.return_value
    except Exception as error:
        return Outcome(FAILED, f"{type(error).__name__}: {in_short(error)}")
    if isinstance(value, Mapping):
        value = [value.get(name) for name in names]
    values = list(value) if isinstance(value, list | tuple) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and v == v]
    if len(numbers) != len(names) or len(values) != len(names):
        return Outcome(FAILED, (
            f"the function must return {'a number' if len(names) == 1 else ', '.join(names)}. "
            f"Received: {returned.return_value!r}"
        ))
    return Outcome(DONE, values=[float(number) for number in numbers])
