"""`hydra/sweeper=kerasft`: kerasft's search for any application of Hydra.

Hydra imports this file whenever it starts: what it needs is imported when it is used.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


class KerasftSweeper(Sweeper):
    """Searches with Optuna, in batches through Hydra's launcher, and goes on where it was.

    Args:
        **search: See `DEFAULTS`.
    """

    def __init__(self, **search: Any):
        self.search = search

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra hands over."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Carry the search out.

        Args:
            arguments: Overrides; those with several values and intervals are varied.

        Returns:
            The best values of the objectives, by name.
        """
        from kerasft.sweeps.plugin import sweep

        return sweep(
            arguments, self.search, context=self.context, task=self.task, config=self.config
        )


# As in conf/sweep/base.yaml, but for what is about runs of kerasft.
DEFAULTS = {
    "_target_": "hydra_plugins.kerasft_sweeper.KerasftSweeper",
    "_recursive_": False,
    "_convert_": "all",
    "n_trials": 20,
    "batch": 1,  # trials that the launcher gets at a time
    "objectives": ["objective"],  # names of what the function returns
    "directions": ["maximize"],
    "space": {},
    "known": [],
    "sampler": {
        "_target_": "optuna.samplers.TPESampler", "multivariate": True, "group": True,
        "constant_liar": True, "n_startup_trials": 8,
    },
    "pruner": None,  # gives up trials whose function calls `kerasft.sweeps.jobs.report`
    "seed": 0,
    "max_time": None,  # minutes, after which no batch begins
    "max_cost": None,  # hours of all trials together, after which none begins
    "max_failures": 5,
    "retries": 2,
    "storage": None,
}  # fmt: skip
ConfigStore.instance().store(
    group="hydra/sweeper", name="kerasft", node=DEFAULTS, provider="kerasft"
)
