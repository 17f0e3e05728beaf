"""An adapter as a small file of its own: what training changed, and the weights it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from kerasft.errors import UserError
from kerasft.model.adapting.adaptation import adaptation_of, head_variables
from kerasft.system.files import written_whole
from kerasft.system.recorded import fits
from kerasft.system.variables import capture_variables, names_of

if TYPE_CHECKING:
    import keras

# Raised when the file changes its form.
FORMAT = 1
# The file, where a run and an export have it.
NAME = "adapter.safetensors"
# What a record of each kind holds.
RECORDS: Mapping[str, Mapping[str, Any]] = {
    "lora": {"rank": int, "alpha": float, "dropout": float, "base": str, "targets": list[Any]},
    "bias": {},
    "norm": {},
}


@dataclass(frozen=True)
class Adapter:
    """What an adapter's file holds.

    Args:
        base: The fingerprint of the backbone's weights that it belongs to.
        backbone: The name of that backbone, for messages.
        records: How a model is adapted, see `Adaptation`.
        state: Values of the adapter's variables, in order, by name.
        head: Values of the head's, likewise.
    """

    base: str
    backbone: str
    records: Sequence[Mapping[str, Any]]
    state: Mapping[str, np.ndarray]
    head: Mapping[str, np.ndarray]


def write_adapter(path: Path, model: keras.Model, *, backbone: str) -> int:
    """Write what training has changed of an adapted model, as safetensors.

    Args:
        path: The file.
        model: The model.
        backbone: The name of its backbone.

    Returns:
        The size of the file in bytes.
    """
    from safetensors.numpy import save_file

    adaptation = adaptation_of(model)
    assert adaptation is not None
    tensors = capture_variables("adapter", adaptation.state)
    tensors |= capture_variables("head", _head_state(model))
    about = {
        "format": str(FORMAT), "base": adaptation.base, "backbone": backbone,
        "adapt": json.dumps(adaptation.records),
    }
    with written_whole(path) as part:
        save_file(tensors, part, metadata=about)
    return path.stat().st_size


def read_adapter(path: Path) -> Adapter:
    """Read a file that `write_adapter` wrote.

    Raises:
        UserError: If there is none, or it is no whole adapter.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(
            f"adapt.saved.path must name the adapter of a run, RUN/checkpoints/{NAME}, or a "
            f"folder that export=adapter or PEFT wrote. There is no file {str(path)!r}."
        )
    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != str(FORMAT):
            raise ValueError(f"its format is {about['format']}, and this version reads {FORMAT}")
        records = json.loads(about["adapt"])
        _require_records(records)
        return Adapter(
            about["base"], about["backbone"], records, _of("adapter", tensors),
            _of("head", tensors),
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} is no adapter of kerasft, or it is damaged: "
            f"{type(error).__name__}: {error}. Take RUN/checkpoints/adapter.safetensors of a run "
            "with adapt=lora, bias or norm."
        ) from error


def _require_records(records: Any) -> None:
    """See that records are such as `saved` can follow: files come from anywhere."""
    if not fits(records, list[dict[str, Any]]) or not records:
        raise ValueError("it does not say how a model is adapted")
    for record in records:
        wanted = RECORDS.get(record.get("kind", ""))
        if wanted is None or not all(fits(record.get(key), kind) for key, kind in wanted.items()):
            raise ValueError(f"it has an adapter of no known kind: {str(record)[:100]}")
        for place in record.get("targets", []):
            if not (fits(place, list[Any]) and len(place) == 2 and fits(place[0], int)
                    and fits(place[1], str)):  # fmt: skip
                raise ValueError(f"it names no layer by {str(place)[:100]}")


def require_base(adapter: Adapter, base: str, path: Path) -> None:
    """See that an adapter belongs to a backbone's weights.

    Raises:
        UserError: If not.
    """
    if adapter.base != base:
        refuse_base(path, adapter.backbone, adapter.base, base)


def refuse_base(path: Path, backbone: str, wanted: str, base: str) -> NoReturn:
    """Raise the error of an adapter that belongs to other weights."""
    raise UserError(
        f"The adapter {str(path)!r} belongs to other weights: it was trained on "
        f"{backbone} with the SHA-256 {wanted[:12]}..., and this backbone has "
        f"{base[:12]}.... Choose the backbone and the weights that its run had "
        "(RUN/config.yaml)."
    )


def give(adapter: Adapter, model: keras.Model, path: Path) -> str:
    """Give an adapted model the values of an adapter's file.

    Args:
        adapter: The file's content.
        model: A model that is adapted as the file says.
        path: The file, for messages.

    Returns:
        What to say of the head: `""` where the file's was taken.

    Raises:
        UserError: If the variables are others.
    """
    adaptation = adaptation_of(model)
    assert adaptation is not None
    if not _assign("adapter", adaptation.state, adapter.state):
        raise UserError(
            f"The adapter {str(path)!r} does not fit: it has other variables than this model "
            "gives to an adapter of its kind. The backbone or a version has changed."
        )
    if _assign("head", _head_state(model), adapter.head):
        return ""
    return "the head of the adapter's file is another one and is left out: this one begins anew"


def _assign(kind: str, variables: Sequence[Any], values: Mapping[str, np.ndarray]) -> bool:
    """Give variables their values if names and shapes agree, and say whether they did."""
    wanted = dict(zip(names_of(kind, variables), variables, strict=True))
    if set(wanted) != set(values) or any(
        tuple(one.shape) != values[name].shape for name, one in wanted.items()
    ):
        return False
    for name, one in wanted.items():
        one.assign(values[name])
    return True


def _head_state(model: keras.Model) -> list[Any]:
    """Return the variables of a model's head, without the states of random numbers."""
    return [v for v in head_variables(model) if "seed" not in v.path.rpartition("/")[2]]


def _of(kind: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in tensors.items() if name.startswith(f"{kind}/")}
