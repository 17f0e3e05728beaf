"""The search behind `hydra/sweeper=kerasft`, for applications of Hydra that are not kerasft."""

from __future__ import annotations

import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kerasft.config.composition import SWEEP, as_config, compose_search
from kerasft.errors import Stopped, UserError
from kerasft.sweeps import batches, beginning, parts, summary, urls
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.jobs import Job
from kerasft.sweeps.search import same
from kerasft.sweeps.settings import require_sound
from kerasft.sweeps.space import Space, read, still_varied
from kerasft.sweeps.text import one_line
from kerasft.system.console import listing, say, table


def sweep(
    arguments: Sequence[str], search: Mapping[str, Any], *, context: Any,
    task: Callable[[Any], Any], config: Any,
) -> dict[str, float]:
    """Search for the settings of an application with the best objectives.

    The sweep lies in `hydra.sweep.dir`. If there is one already, it goes on to `n_trials`.

    Args:
        arguments: Overrides; those with several values and intervals are varied.
        search: The values of `hydra.sweeper`.
        context: Hydra's context.
        task: The application's function, which returns the objectives.
        config: The composed config.

    Returns:
        The best objectives by name; empty where no trial has ended.

    Raises:
        SystemExit: For a mistake in the space or the settings, which is printed; or where the
            sweep was stopped or its time is over, when how to go on is.
    """
    try:
        return _sweep(arguments, search, context, task, config)
    except UserError as error:
        raise SystemExit("\n".join(f"error: {problem}" for problem in error.problems)) from None
    except Stopped as stopped:
        print(f"{stopped}. To go on: the same command with "
              f"hydra.sweep.dir={one_line(stopped.folder)}", file=sys.stderr)  # fmt: skip
        raise SystemExit(stopped.code) from None


def _sweep(
    arguments: Sequence[str], search: Mapping[str, Any], context: Any, task: Callable[[Any], Any],
    config: Any,
) -> dict[str, float]:
    names, directions = _objectives(search)
    asked = compose_search([f"{SWEEP}=base"]) | {
        key: value for key, value in search.items() if key not in ("batch", "directions")
    }
    asked |= {"workers": search["batch"]}
    require_sound(asked, ())
    asked["storage"] = urls.settled(asked["storage"])
    # The application's configs name the sampler, and its command line the folder.
    trusted = tuple(parts.pickling(asked["sampler"]))
    space = read(arguments, asked["space"])
    asked["known"] = still_varied(space, asked["space"], asked["known"])
    _require_searchable(space, asked)
    folder = Path(str(config.hydra.sweep.dir))
    begin = partial(
        beginning.begin, overrides=arguments, search=asked, objectives=names, directions=directions,
        configs=_own_configs(context), trusted=trusted,
    )  # fmt: skip
    if not ledgers.is_sweep(folder):
        _require_free(folder)
        # In a folder that is thrown away, so that a mistake leaves nothing behind.
        with tempfile.TemporaryDirectory() as tried:
            trial = begin(Path(tried), search={**asked, "storage": None})
            known = [space.settled(point) for point in asked["known"]]
            _require_composable(space, known, _frozen(trial, context), config)
    with beginning.alone_in(folder):  # of several that begin at once, one does
        if ledgers.is_sweep(folder):
            ledger = same(ledgers.reopen(folder, trusted), space, asked)
        else:
            _require_free(folder)
            ledger = begin(folder)
    if ledger.facts["objectives"] != names or ledger.facts["directions"] != directions:
        raise UserError(
            f"The sweep in {str(folder)!r} began with other objectives: "
            f"{', '.join(ledger.facts['objectives'])}. Choose another hydra.sweep.dir."
        )
    job = Job(folder.resolve(), task, partial(batches.objectives_of, names=names))
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=_frozen(ledger, context), task_function=job, config=_with_own_jobs(config)
    )
    of = f"{', '.join(names)} of {asked['n_trials'] or 'all'} trials"
    say(f"sweep: {one_line(str(folder))}; {of}")
    batches.run(
        ledger, launcher.launch, job.tickets, size=asked["workers"],
        overrides=lambda claim: ledger.space.overrides(claim.point),
        read=lambda returned: batches.value_of(returned, job.judge),
    )
    return _told(ledger)


def _objectives(search: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    names, directions = list(search["objectives"]), list(search["directions"])
    if not names or len(names) != len(directions) or \
            not set(directions) <= {"maximize", "minimize"}:
        raise UserError(
            "hydra.sweeper.directions must say maximize or minimize for each of objectives. "
            f"Received: {directions} for {names}."
        )
    batch = search["batch"]
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise UserError(
            f"hydra.sweeper.batch must be a whole number above 0. Received: {batch!r}."
        )
    return names, directions


def _require_searchable(space: Space, asked: Mapping[str, Any]) -> None:
    problems = []
    if not space.axes:
        problems.append(
            "A sweep varies something: give a key several values, or an interval."
        )
    if asked["sampler"] is None and space.endless:
        problems.append(
            f"Every combination of an interval is endless: list the values of "
            f"{', '.join(space.endless)}, or set hydra.sweeper.sampler."
        )
    if asked["sampler"] is not None and asked["n_trials"] is None:
        problems.append("hydra.sweeper.n_trials must be a number: only a grid knows its own.")
    keys = sorted(axis.key for axis in space.axes)
    for point in asked["known"]:
        if unknown := sorted(set(point) - set(keys)):
            problems.append(
                f"hydra.sweeper.known: {', '.join(unknown)} is not varied. Varied: "
                f"{', '.join(keys)}."
            )
    if problems:
        raise UserError(problems=problems)


def _require_free(folder: Path) -> None:
    """See that a folder is no sweep's, and nobody else's either."""
    if folder.is_dir() and not ledgers.is_sweep(folder) \
            and any(file.name != beginning.LOCK for file in folder.iterdir()):
        raise UserError(
            f"hydra.sweep.dir must be new, empty or hold a sweep. Received: {str(folder)!r}."
        )


def _require_composable(
    space: Space, known: Sequence[Mapping[str, Any]], context: Any, config: Any
) -> None:
    """Compose each value of each key, and every known point."""
    problems: dict[str, None] = {}
    for point in (*space.corners(), *known):
        try:
            context.config_loader.load_sweep_config(config, space.overrides(point))
        except (HydraException, OmegaConfBaseException) as error:
            # Where Hydra looked, and of which type its node is, helps nobody here.
            lines = str(error).partition("Config search path")[0].splitlines()
            problems[" ".join(
                word for line in lines if not re.match(r"\s*(full_key|object_type|reference)", line)
                for word in line.split()
            )] = None
    if problems:
        raise UserError(problems=problems)


def _own_configs(context: Any) -> list[Path]:
    """Return the folders that the application's configs come from, in the order of the search."""
    entries = context.config_loader.get_search_path().get_path()
    return [place for entry in entries if (place := _place(entry)) is not None]


def _place(entry: Any) -> Path | None:
    """Return the folder of an entry of Hydra's search path, where it is one of the user's."""
    scheme, _, rest = str(entry.path).rpartition("://")
    if entry.provider == "hydra" or scheme not in ("", "file", "pkg"):
        return None
    if scheme == "pkg":
        from importlib.resources import files

        try:
            found = Path(str(files(rest)))
        except (ModuleNotFoundError, TypeError):
            return None
    else:
        found = Path(rest)
    return found if found.is_dir() else None


def _frozen(ledger: ledgers.Ledger, context: Any) -> HydraContext:
    """Return a context that composes from the copies: edits change nothing under a sweep."""
    copies = list(ledger.facts["config_dirs"])
    entries = context.config_loader.get_search_path().get_path()
    own = [_place(entry) is not None for entry in entries]
    if sum(own) != len(copies):
        raise UserError(
            f"The sweep in {str(ledger.path)!r} began with {len(copies)} folders of configs, and "
            f"now there are {sum(own)}: {listing(filter(None, map(_place, entries))) or 'none'}. "
            "Put back the one that is gone, take away the one that is new, or choose another "
            "hydra.sweep.dir."
        )
    paths = ConfigSearchPathImpl()
    for entry, is_own in zip(entries, own, strict=True):
        path = str(entry.path)
        if is_own:
            path = f"file://{(ledger.path / copies.pop(0)).resolve()}"
        paths.append(entry.provider, path)
    return HydraContext(
        config_loader=ConfigLoaderImpl(config_search_path=paths), callbacks=context.callbacks
    )


def _with_own_jobs(config: Any) -> Any:
    """Return a config by which submitit's jobs lie in a new folder: it unpickles what it finds.

    Where the application names a folder itself, it stays.
    """
    given = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    usual = "${hydra.sweep.dir}/.submitit/"
    folder = given.get("submitit_folder") if isinstance(given, dict) else None
    if not str(folder).startswith(usual):
        return config
    made = deepcopy(config)
    with read_write(made), open_dict(made):
        made.hydra.launcher.submitit_folder = (
            f"{usual}{secrets.token_hex(8)}/{str(folder).removeprefix(usual)}"
        )
    return made


def _told(ledger: ledgers.Ledger) -> dict[str, float]:
    """Say the best, and write it where others of Hydra's sweepers do."""
    names, found = ledger.facts["objectives"], summary.best(ledger)
    if not found:
        return {}
    rows = [[t.number, *t.values, t.user_attrs["point"]] for t in found]
    say("\n" + table(rows, ["trial", *names, "setting"]))
    values = dict(zip(names, found[0].values, strict=True))
    # As they were handed to the application, which was with six digits.
    point = {key: float(f"{value:.6g}") if isinstance(value, float) else value
             for key, value in found[0].user_attrs["values"].items()}  # fmt: skip
    told = {"name": "kerasft", "best_params": point, "best_values": values}
    OmegaConf.save(as_config(told), ledger.path / "optimization_results.yaml")
    return values
