"""A sweep from its beginning to its end: checked, planned, carried out by workers, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasft import record
from kerasft.checks import settle
from kerasft.config import SEARCH, build, compose_search
from kerasft.console import say
from kerasft.errors import UserError
from kerasft.sweeps import batches, costs, objectives, outcome
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import FREE, Ledger
from kerasft.sweeps.settings import require_sound
from kerasft.sweeps.space import Space, name_of, read
from kerasft.sweeps.supervisor import Supervisor
from kerasft.sweeps.worker import HALT


def search(
    overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = (), trusted: Sequence[str] = ()
) -> Ledger:
    """Begin a sweep, or go on with the one in `output_dir`, and carry it out.

    Everything is checked first: each value of each key, composed with the rest.

    Args:
        overrides: Overrides of runs, with several values or intervals where they are varied, and of
            `sweep`.
        config_dirs: Folders with configs of your own.
        trusted: Import prefixes that a `_target_` may start with.

    Returns:
        The sweep.

    Raises:
        UserError: For any mistake in the config or the space, before anything runs.
        Stopped: If a signal or `sweep.max_time` ended it before its end.
    """
    asked, space, of_runs = _asked(overrides, config_dirs, trusted)
    folder = next((o.partition("=")[2] for o in space.fixed if _key(o) == "output_dir"), None)
    if folder and ledgers.is_sweep(folder):
        return go_on(same(ledgers.reopen(folder, trusted), space, asked))
    first = _checked(space, asked, config_dirs, trusted)
    names = asked["objectives"] or [build(first.task).monitor.removeprefix("val_")]
    of_runs = [o for o in of_runs if _key(o) != "output_dir"]
    made = ledgers.create(
        record.new_folder(first, "_sweep"), of_runs, asked, objectives=names,
        directions=objectives.directions(names), config_dirs=config_dirs, trusted=trusted,
    )
    return go_on(made)


def plan(
    overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = (), trusted: Sequence[str] = ()
) -> costs.Outlook:
    """Measure a few steps of some settings, and tell what a sweep would cost. Nothing is trained.

    Args:
        overrides: See `search`, as `config_dirs` and `trusted`.

    Returns:
        The outlook.

    Raises:
        UserError: For any mistake in the config or the space.
    """
    asked, space, _ = _asked(overrides, config_dirs, trusted)
    _checked(space, asked, config_dirs, trusted)
    configs = [(point, settle(space.overrides(point), config_dirs, trusted))
               for point in costs.spread(space)]  # fmt: skip
    return costs.measure(space, configs, asked["n_trials"], asked["workers"], trusted)


def _asked(
    overrides: Sequence[str], config_dirs: Sequence[str], trusted: Sequence[str]
) -> tuple[dict[str, Any], Space, list[str]]:
    """Part what is asked of the search from what is asked of its runs."""
    of_search = [o for o in overrides if _key(o).partition(".")[0] in SEARCH]
    of_runs = [o for o in overrides if o not in of_search]
    asked = compose_search(of_search, config_dirs=config_dirs)
    require_sound(asked, trusted)
    return asked, read(of_runs, asked["space"]), of_runs


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _checked(
    space: Space, asked: Mapping[str, Any], config_dirs: Sequence[str], trusted: Sequence[str]
) -> Any:
    """Compose each value of each key, and every known point; return the first config."""
    problems: dict[str, None] = {}
    if not space.axes:
        problems["A sweep varies something: head=linear,mlp, or an interval such as "
                 "'optimizer.learning_rate=tag(log,interval(1e-5,1e-3))', or sweep=text."] = None
    if asked["sampler"] is None and space.endless:
        problems[f"Every combination of an interval is endless: list the values of "
                 f"{', '.join(space.endless)}, or search: sweep=tpe, sweep=random."] = None
    if asked["sampler"] is not None and asked["n_trials"] is None:
        problems["sweep.n_trials must be a number: only a grid knows its own."] = None
    keys = {axis.key for axis in space.axes}
    for point in asked["known"]:
        if unknown := sorted(set(point) - keys):
            problems[f"sweep.known: {', '.join(unknown)} is not varied. Varied: "
                     f"{', '.join(sorted(keys))}."] = None  # fmt: skip
    first, seen = None, set()
    for point in (*space.corners(), *asked["known"]):
        if (name := name_of(point)) in seen:
            continue
        seen.add(name)
        try:
            cfg = settle(space.overrides(point), config_dirs, trusted)
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        if cfg.resume or cfg.max_time:
            problems["resume and max_time are of one run. For a sweep: the same command goes on "
                     "with it, and sweep.max_time limits it."] = None  # fmt: skip
        first = cfg if first is None else first
    if problems:
        raise UserError(problems=problems)
    return first


def same(there: Ledger, space: Space, asked: Mapping[str, Any]) -> Ledger:
    """See that a sweep goes on as it began; what may change, changes.

    Args:
        there: The sweep.
        space: What is varied now.
        asked: The values of `sweep` now.

    Returns:
        The sweep with the values that may change.

    Raises:
        UserError: With the differences.
    """
    fixed = tuple(o for o in space.fixed if _key(o) != "output_dir")
    before, now = there.space.to_dict(), Space(fixed, space.axes).to_dict()
    apart = [
        f"{axis['key']} was {_range(axis)}" for axis in before["axes"] if axis not in now["axes"]
    ] + [f"{axis['key']} is now {_range(axis)}" for axis in now["axes"]
         if axis not in before["axes"]]
    apart += [f"{o} is gone" for o in before["fixed"] if o not in now["fixed"]]
    apart += [f"{o} is new" for o in now["fixed"] if o not in before["fixed"]]
    apart += [
        f"sweep.{key} was {there.search[key]}, now {asked[key]}" for key in asked
        if key not in (*FREE, "space") and asked[key] != there.search.get(key)
    ]
    if apart:
        raise UserError(
            f"The sweep in {str(there.path)!r} began with another space: {'; '.join(apart)}. Take "
            "these back, or choose another folder."
        )
    return ledgers.reopen(there.path, there.trusted, **{key: asked[key] for key in FREE})


def _range(axis: Mapping[str, Any]) -> str:
    if "values" in axis:
        return ",".join(axis["values"])
    return f"{axis['low']:g} to {axis['high']:g}{' by magnitude' if axis['log'] else ''}"


def go_on(ledger: Ledger) -> Ledger:
    """Carry a sweep out, from where it stands.

    Raises:
        UserError: If too many trials failed.
        Stopped: If a signal or the time limit ended it before its end.
    """
    (ledger.path / HALT).unlink(missing_ok=True)
    total = ledger.search["n_trials"]
    counts = ledger.counts()
    say(f"sweep: {ledger.path}; {', '.join(ledger.facts['objectives'])} of "
        f"{'all' if total is None else total} trials")
    if any(counts.values()):
        say(f"so far: {counts['done']} done, {counts['pruned']} pruned, {counts['failed']} failed, "
            f"{counts['running']} to be taken up again")
    if ledger.wanted():
        if ledger.search["launcher"]["name"]:
            batches.through_hydra(ledger)
        else:
            Supervisor(ledger).run()
    outcome.let_networks_go(ledger)
    outcome.tell(ledger)
    return ledger
