"""kerasft: fine-tune pretrained Keras networks on your own data."""

from __future__ import annotations

import os
from typing import Any

# KerasHub's text parts and the exports need TensorFlow; Keras reads this when it is imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Ray Train sets it for its workers. TensorFlow would look for Keras 2, and find itself.
os.environ.pop("TF_USE_LEGACY_KERAS", None)

__version__ = "0.1.0"

# Public name -> the module that holds it. Imported on first use: most commands need no TensorFlow.
_PUBLIC = {
    "UserError": "errors",
    "check": "run",
    "compose": "config.composition",
    "diagnose": "steps.advice.diagnosing",
    "evaluate": "run",
    "explain": "config.explanation",
    "export": "run",
    "grid": "sweeps.grid",
    "leaderboard": "sweeps.leaderboard",
    "lr_find": "steps.advice.lr_finder",
    "models": "config.task_inputs",
    "plan": "run",
    "predict": "run",
    "predict_data": "run",
    "probe": "steps.advice.probe",
    "resume": "run",
    "show": "run",
    "sweep": "sweeps.search",
    "train": "run",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


# Former public name -> today's.
_FORMER = {"search": "sweep"}


def __getattr__(name: str) -> Any:
    if name in _FORMER:
        import warnings

        new = _FORMER[name]
        warnings.warn(f"kerasft.{name} is now kerasft.{new}", DeprecationWarning, stacklevel=2)
        return __getattr__(new)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kerasft' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"kerasft.{_PUBLIC[name]}"), name)
    globals()[name] = value  # functions win over modules of the same name
    return value


def __dir__() -> list[str]:
    return __all__
