"""Trials in batches, through any of Hydra's launchers: joblib, submitit, Ray."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.errors import AGAIN, Stopped, UserError, in_short, nearest
from kerasft.sweeps import launchers, leases
from kerasft.sweeps.jobs import Job, failure, saved_before_requeue, word, word_of
from kerasft.sweeps.ledger import DONE, FAILED, Claim, Ledger, Outcome
from kerasft.sweeps.summary import line_of
from kerasft.system.console import say
from kerasft.system.processes import importable
from kerasft.system.tf_data import cores

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Takes the overrides of some jobs and the number of the first; returns Hydra's `JobReturn`s.
Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]
# Launchers that run the jobs of a batch beside each other on this machine, where they would fight
# for its cores.
BESIDE = ("joblib", "submitit_local")
JOB = "kerasft_trial"


def run(
    ledger: Ledger, launch: Launch, issued: dict[int, str], *, size: int,
    overrides: Callable[[Claim], Sequence[str]], read: Callable[[Any], Outcome], pause: float = 1.0,
) -> None:
    """Carry a sweep out in batches.

    This process holds the trials of a batch as long as the launcher works on them, and each job
    its own. If this process dies, whoever goes on with the sweep takes up what no job works on.

    Args:
        ledger: The sweep.
        launch: Carries a batch out.
        issued: Where the `Job` behind `launch` finds the tickets of its trials.
        size: How many trials a batch has.
        overrides: What a job is told of its trial.
        read: What a job came to that left no word, of what it returned.
        pause: Seconds between two looks while others are at work.

    Raises:
        Stopped: If a job was stopped, the user stops the sweep, or its time is over.
        UserError: If too many trials failed.
    """
    minutes = ledger.search["max_time"]
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    while True:
        claims: list[Claim] = []
        try:
            while len(claims) < size and (claim := ledger.claim()) is not None:
                claims.append(claim)
                _settle(ledger, claim, _word_of(ledger, claim))
            if not claims and not ledger.may_leave_some():
                break
            for group in _in_rows([claim for claim in claims if claim.lock.is_locked]):
                _require_time(until)
                _carry_out(ledger, launch, issued, group, overrides, read)
            if not claims:
                _require_time(until)
                time.sleep(pause)  # others work on the rest, and may leave it behind
        except KeyboardInterrupt:
            raise stopped(ledger, "SIGINT", 130) from None
        except Stopped as error:
            raise stopped(ledger, error.reason, error.code) from None
        finally:
            for claim in claims:
                if claim.lock.is_locked:
                    # How long its job worked, if it did, nobody knows.
                    ledger.put_back(replace(claim, began=time.monotonic()))
    ledger.require_few_failures()


def _require_time(until: float) -> None:
    if time.monotonic() >= until:
        raise Stopped("max_time", AGAIN)


def _carry_out(
    ledger: Ledger, launch: Launch, issued: dict[int, str], group: Sequence[Claim],
    overrides: Callable[[Claim], Sequence[str]], read: Callable[[Any], Outcome],
) -> None:
    """Have a row of trials carried out, and write down what each came to.

    Raises:
        Stopped: If one of them was stopped, when the others are settled.
        UserError: If the launcher could not do it.
    """
    try:
        issued.update({one.number: leases.issue(ledger.path, one.number) for one in group})
        returned = launch([overrides(claim) for claim in group], group[0].number)
    except (UserError, Stopped):
        raise
    except Exception as error:
        raise UserError(
            f"The launcher could not carry a batch out: {in_short(error)}. Its trials go on when "
            f"the sweep in {str(ledger.path)!r} is started again."
        ) from error
    ended = None
    for claim, one in zip(group, returned, strict=True):
        try:
            _settle(ledger, claim, _word_of(ledger, claim) or read(one))
        except Stopped as error:
            ended = error
    if ended is not None:
        raise ended


def _word_of(ledger: Ledger, claim: Claim) -> Outcome | None:
    return word_of(ledger.path, claim.number, len(ledger.facts["objectives"]))


def _settle(ledger: Ledger, claim: Claim, outcome: Outcome | None) -> None:
    """Write down what a trial came to, and say so, where it is known."""
    if outcome is None:
        return
    ledger.settle(claim, outcome)
    word(ledger.path, claim.number).unlink(missing_ok=True)
    say(line_of(ledger, ledger.trials()[claim.number]))


def _in_rows(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Part trials into rows of numbers one after the other: launchers count from the first."""
    rows: list[list[Claim]] = []
    for claim in sorted(claims, key=lambda claim: claim.number):
        if rows and claim.number == rows[-1][-1].number + 1:
            rows[-1].append(claim)
        else:
            rows.append([claim])
    return rows


def stopped(ledger: Ledger, reason: str, code: int) -> Stopped:
    """Return what ends a sweep before its end: why, and how far it is."""
    counts = ledger.counts()
    made = Stopped(
        reason, code, where=f"with {counts['done']} trials done, {counts['pruned']} pruned and "
                            f"{counts['running']} to be taken up again",
    )  # fmt: skip
    made.folder = str(ledger.path)
    return made


def through_hydra(ledger: Ledger) -> None:
    """Carry out a sweep of ours through the launcher that it names."""
    chosen, workers = ledger.search["launcher"], ledger.search["workers"]
    launchers.require_place(str(ledger.path.resolve()))
    job = Job(ledger.path.resolve(), carry_out, _outcome)
    launcher = _launcher(ledger, chosen["name"], chosen.get("settings") or {}, job)
    # Jobs import what this process would, and nothing from the folder that they begin in.
    settings = {**shared_threads(workers if chosen["name"] in BESIDE else 1), **importable(),
                "PYTHONSAFEPATH": "1"}  # fmt: skip
    with _environment(settings):
        run(
            ledger, launcher.launch, job.tickets, size=workers,
            overrides=lambda claim: [f"trial={claim.number}"],
            read=lambda returned: value_of(returned, _outcome),
        )  # fmt: skip


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Give processes that begin inside the block some settings."""
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def shared_threads(workers: int) -> dict[str, str]:
    """Return the settings by which processes divide the cores among them."""
    if workers == 1:
        return {}
    share = str(max(cores() // workers, 1))
    return dict.fromkeys(
        ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), share
    )


def _jobs_folder(ledger: Ledger) -> Path:
    """Make a folder for the jobs of one call: a launcher unpickles what it finds in its own."""
    folder = ledger.path.resolve() / "launched" / secrets.token_hex(8)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _launcher(ledger: Ledger, name: str, settings: Mapping[str, Any], job: Job) -> Any:
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
            f"hydra.sweep.dir={_jobs_folder(ledger)}", "hydra.sweep.subdir=.",
            "hydra.output_subdir=null", f"hydra.job.name={JOB}",
        ], RunMode.MULTIRUN)  # fmt: skip
        takes = [key for key in cfg.hydra.launcher if key != "_target_"]
        for key, value in settings.items():
            if key not in takes:
                raise UserError(
                    f"launcher.settings: {name} has no {key!r}. Allowed: {', '.join(takes)}."
                    + nearest(key, takes)
                )
            if _calls(value):
                raise UserError(
                    f"launcher.settings.{key} must hold no _target_: settings are values. "
                    f"Received: {value!r}."
                )
            OmegaConf.update(cfg, f"hydra.launcher.{key}", value, merge=True, force_add=True)
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
    return Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=job, config=cfg
    )


def _calls(value: object) -> bool:
    """Whether Hydra would call something that a setting names; a sweep may come from anywhere."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_calls, value.values()))
    return isinstance(value, list | tuple) and any(map(_calls, value))


def carry_out(cfg: DictConfig) -> dict[str, Any]:
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
    with written_to(ledger.log(cfg.trial)), saved_before_requeue():
        outcome = attempt(ledger, cfg.trial)
    return {"state": outcome.state, "reason": outcome.reason, "values": list(outcome.values)}


def _outcome(value: Any) -> Outcome:
    """Return what a job of ours came to."""
    return Outcome(**value)


def value_of(returned: Any, judge: Callable[[Any], Outcome]) -> Outcome:
    """Return what a job came to that left no word of it.

    Args:
        returned: Hydra's `JobReturn`.
        judge: What the value means that a function returned.

    Raises:
        Stopped: If it was stopped.
    """
    try:
        return judge(returned.return_value)
    except Stopped:
        raise
    except Exception as error:
        return failure(error)


def objectives_of(value: object, names: Sequence[str]) -> Outcome:
    """Return what a job of any application of Hydra came to: it returns its objectives.

    Args:
        value: What the function returned: a number, or one for each objective, in order or by name.
        names: The objectives' names.
    """
    given = [value.get(name) for name in names] if isinstance(value, Mapping) else value
    values = list(given) if isinstance(given, list | tuple) else [given]
    numbers = [v for v in values if isinstance(v, int | float) and v == v]
    if len(numbers) != len(names) or len(values) != len(names):
        return Outcome(FAILED, (
            f"the function must return {'a number' if len(names) == 1 else ', '.join(names)}. "
            f"Received: {value!r}"
        ))
    return Outcome(DONE, values=[float(number) for number in numbers])
