"""A sweep from its beginning to its end: checked, planned, carried out by workers, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from kerasft.config.checks import settle
from kerasft.config.composition import SEARCH, compose_search, parsed
from kerasft.errors import UserError
from kerasft.runs import output_dir
from kerasft.sweeps import batches, beginning, costs, launchers, objectives, parts, summary, urls
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.ledger import FREE, Ledger
from kerasft.sweeps.preflight import checked
from kerasft.sweeps.settings import require_sound
from kerasft.sweeps.space import Space, read, still_varied
from kerasft.sweeps.supervisor import Supervisor
from kerasft.sweeps.text import one_line
from kerasft.system.console import listing, say, without_chatter
from kerasft.system.files import at_home
from kerasft.system.passwords import override_shown


@without_chatter()
def sweep(
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
    # Whoever names such a sampler on the command line knows whose folder it is.
    trusted = (*trusted, *(one for one in parts.pickling(asked["sampler"]) if one not in trusted))
    folder = _folder(space)
    found = _there(folder, space, asked, trusted)
    if found is None:
        first, names = checked(space, asked, config_dirs, trusted)
        # Several that begin at the same time, as an array of jobs does, begin one sweep.
        with nullcontext() if folder is None else beginning.alone_in(folder):
            found = _there(folder, space, asked, trusted) or beginning.create(
                output_dir.new_folder(first, "_sweep"),
                [o for o in of_runs if _key(o) != "output_dir"], asked, objectives=names,
                directions=objectives.directions(names), config_dirs=config_dirs, trusted=trusted,
            )
    return go_on(found)


def _folder(space: Space) -> Path | None:
    """Return where the sweep is to lie, if that is said."""
    for override in space.fixed:
        if _key(override) == "output_dir":
            (read_,) = parsed([override])
            return None if read_.value() is None else at_home(str(read_.value()))
    return None


def _there(
    folder: Path | None, space: Space, asked: Mapping[str, Any], trusted: Sequence[str]
) -> Ledger | None:
    """Return the sweep that is in a folder already, if it is the same."""
    if folder is None or not ledgers.is_sweep(folder):
        return None
    return same(ledgers.reopen(folder, trusted), space, asked)


def plan(
    overrides: Sequence[str] = (), *, config_dirs: Sequence[str] = (), trusted: Sequence[str] = ()
) -> costs.Outlook:
    """Measure a few steps of some settings, and tell what a sweep would cost. Nothing is trained.

    Args:
        overrides: See `sweep`, as `config_dirs` and `trusted`.

    Returns:
        The outlook.

    Raises:
        UserError: For any mistake in the config or the space.
    """
    asked, space, _ = _asked(overrides, config_dirs, trusted)
    checked(space, asked, config_dirs, trusted)
    configs = [(point, settle(space.overrides(point), config_dirs, trusted))
               for point in costs.representative(space)]  # fmt: skip
    return costs.measure(space, configs, asked["n_trials"], asked["workers"], trusted)


def _asked(
    overrides: Sequence[str], config_dirs: Sequence[str], trusted: Sequence[str]
) -> tuple[dict[str, Any], Space, list[str]]:
    """Part what is asked of the search from what is asked of its runs."""
    of_search = [o for o in overrides if _key(o).partition(".")[0] in SEARCH]
    of_runs = [o for o in overrides if o not in of_search]
    asked = compose_search(of_search, config_dirs=config_dirs)
    require_sound(asked, trusted)
    asked["storage"] = urls.settled(asked["storage"])
    space = read(of_runs, asked["space"])
    asked["known"] = still_varied(space, asked["space"], asked["known"])
    return asked, space, of_runs


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


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
    apart += [f"{override_shown(o)} is gone" for o in before["fixed"] if o not in now["fixed"]]
    apart += [f"{override_shown(o)} is new" for o in now["fixed"] if o not in before["fixed"]]
    apart += [
        f"sweep.{key} was {_shown(there.search.get(key))}, now {_shown(asked[key])}"
        for key in asked if key not in (*FREE, "space") and asked[key] != there.search.get(key)
    ]
    if apart:
        raise UserError(
            f"The sweep in {str(there.path)!r} began with another space: {'; '.join(apart)}. Take "
            "these back, or choose another folder."
        )
    return ledgers.reopen(there.path, there.trusted, **{key: asked[key] for key in FREE})


def _shown(value: object) -> str:
    """Return a value as a message shows it: an URL may hold a password."""
    return urls.without_password(value) if isinstance(value, str) and "://" in value else str(value)


def _range(axis: Mapping[str, Any]) -> str:
    if "values" in axis:
        return ",".join(axis["values"])
    return f"{axis['low']:g} to {axis['high']:g}{' by magnitude' if axis['log'] else ''}"


def take_up(path: str, trusted: Sequence[str] = ()) -> Ledger:
    """Go on with the sweep in a folder, which may come from anywhere.

    Args:
        path: The folder.
        trusted: Import prefixes that a `_target_` may start with.

    Raises:
        UserError: If it is no sweep of ours, or its launcher would run what the folder says.
        Stopped: If a signal or the time limit ended it before its end.
    """
    ledger = ledgers.reopen(path, trusted)
    if not (ledger.path / "conf").is_dir():
        raise UserError(
            f"The sweep in {path!r} is one of another application of Hydra. To go on: the command "
            f"that began it, with hydra.sweep.dir={one_line(path)}"
        )
    parts.require_harmless(path, ledger.search["sampler"], ledger.trusted)
    launchers.require_harmless(ledger.search["launcher"], path)
    return go_on(ledger)


def go_on(ledger: Ledger) -> Ledger:
    """Carry a sweep out, from where it stands.

    Raises:
        UserError: If too many trials failed.
        Stopped: If a signal or the time limit ended it before its end.
    """
    total = ledger.search["n_trials"]
    counts = ledger.counts()
    say(f"sweep: {one_line(str(ledger.path))}; {', '.join(ledger.facts['objectives'])} of "
        f"{'all' if total is None else total} trials")
    if any(counts.values()):
        elsewhere = len(ledger.at_work())
        say(f"so far: {counts['done']} done, {counts['pruned']} pruned, {counts['failed']} failed, "
            f"{counts['running'] - elsewhere} to be taken up again"
            + (f", {elsewhere} at work elsewhere" if elsewhere else ""))
    if ledger.wanted():
        if ledger.search["launcher"].get("name"):
            batches.through_hydra(ledger)
        else:
            Supervisor(ledger).run()
    if others := ledger.at_work():
        say(f"others work on trials {listing(others)} yet; who ends last chooses the best")
        return ledger
    summary.let_networks_go(ledger)
    summary.tell(ledger)
    return ledger
