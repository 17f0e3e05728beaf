"""The search behind `hydra/sweeper=kerasft`, for applications of Hydra that are not kerasft."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasft.config import SWEEP, as_config, compose_search
from kerasft.console import say, table
from kerasft.errors import Stopped, UserError
from kerasft.sweeps import batches, outcome
from kerasft.sweeps import ledger as ledgers
from kerasft.sweeps.search import same
from kerasft.sweeps.settings import require_sound
from kerasft.sweeps.space import Space, read


def sweep(
    arguments: Sequence[str], search: Mapping[str, Any], *, context: Any, task: Any, config: Any
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
            sweep was stopped, with how to go on.
    """
    try:
        return _sweep(arguments, search, context, task, config)
    except UserError as error:
        raise SystemExit("\n".join(f"error: {problem}" for problem in error.problems)) from None
    except Stopped as stopped:
        raise SystemExit(f"{stopped}. To go on: the same command with hydra.sweep.dir="
                         f"{stopped.folder}") from None  # fmt: skip


def _sweep(
    arguments: Sequence[str], search: Mapping[str, Any], context: Any, task: Any, config: Any
) -> dict[str, float]:
    names, directions = _objectives(search)
    asked = compose_search([f"{SWEEP}=base"]) | {
        key: value for key, value in search.items() if key not in ("batch", "directions")
    }
    asked |= {"workers": search["batch"], "pruner": None}
    require_sound(asked, ())
    space = read(arguments, asked["space"])
    _require_searchable(space, asked)
    folder = Path(str(config.hydra.sweep.dir))
    if ledgers.is_sweep(folder):
        ledger = same(ledgers.reopen(folder), space, asked)
        if ledger.facts["objectives"] != names or ledger.facts["directions"] != directions:
            raise UserError(
                f"The sweep in {str(folder)!r} began with other objectives: "
                f"{', '.join(ledger.facts['objectives'])}. Choose another hydra.sweep.dir."
            )
    else:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"hydra.sweep.dir must be new, empty or hold a sweep. Received: {str(folder)!r}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        ledger = ledgers.begin(
            folder, arguments, asked, objectives=names, directions=directions,
            configs=_own_configs(context), trusted=(),
        )  # fmt: skip
    launcher = _frozen_launcher(ledger, context, task, config)
    say(f"sweep: {folder}; {', '.join(names)} of {asked['n_trials'] or 'all'} trials")
    batches.run(
        ledger, launcher.launch, size=asked["workers"],
        overrides=lambda claim: ledger.space.overrides(claim.point),
        read=lambda returned: batches.objectives_of(returned, names),
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
    if len(search) and not (isinstance(search["batch"], int) and search["batch"] > 0):
        raise UserError(
            f"hydra.sweeper.batch must be a whole number above 0. Received: {search['batch']!r}."
        )
    return names, directions


def _require_searchable(space: Space, asked: Mapping[str, Any]) -> None:
    if not space.axes:
        raise UserError("A sweep varies something: give a key several values, or an interval.")
    if asked["sampler"] is None and space.endless:
        raise UserError(
            f"Every combination of an interval is endless: list the values of "
            f"{', '.join(space.endless)}, or set hydra.sweeper.sampler."
        )


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


def _frozen_launcher(ledger: ledgers.Ledger, context: Any, task: Any, config: Any) -> Any:
    """Return the launcher, which composes from the copies: edits change nothing under a sweep."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    paths, copies = ConfigSearchPathImpl(), iter(ledger.facts["config_dirs"])
    for entry in context.config_loader.get_search_path().get_path():
        path = str(entry.path)
        if _place(entry) is not None:
            path = f"file://{(ledger.path / next(copies)).resolve()}"
        paths.append(entry.provider, path)
    frozen = HydraContext(
        config_loader=ConfigLoaderImpl(config_search_path=paths), callbacks=context.callbacks
    )
    return Plugins.instance().instantiate_launcher(
        hydra_context=frozen, task_function=task, config=config
    )


def _told(ledger: ledgers.Ledger) -> dict[str, float]:
    """Say the best, and write it where others of Hydra's sweepers do."""
    from omegaconf import OmegaConf

    names, found = ledger.facts["objectives"], outcome.best(ledger)
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
    shutil.rmtree(ledger.path / "logs", ignore_errors=True)
    return values
