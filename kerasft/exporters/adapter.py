"""An adapter alone: a small file, and the digest of the weights that it belongs to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import parity, tensors
from kerasft.rows import Rows
from kerasft.spec import Evidence, Labels
from kerasft.system.files import at_home, write_json

if TYPE_CHECKING:
    import keras

FORM = "adapter"
ABOUT, PEFT = "adapter.json", "peft"


@dataclass(frozen=True)
class OnBase:
    """An adapter that was put on its base anew.

    Args:
        kept: What the task keeps of the examples that were answered so.
        facts: What the adapter's file says: `backbone`, `base_sha256`, `adapt`, ...
        write_peft: Writes the adapter to a folder in PEFT's layout, and says why it cannot; `""`
            where it is written.
    """

    kept: Rows
    facts: Mapping[str, Any]
    write_peft: Callable[[Path], str]


def adapter(
    model: keras.Model,
    directory: str | Path,
    *,
    task: Task,
    labels: Labels,
    evidence: Evidence,
    saved_adapter: Path,
    on_base: Callable[[Path], OnBase],
    name: str = "model",
) -> Path:
    """Write the adapter of a run, without the base, and prove it on the base.

    `adapter.safetensors` holds what training changed, the head too, with the digest of the weights
    that it belongs to; on other weights it is refused. `adapt=saved adapt.saved.path=FOLDER` takes
    it up on the same backbone. Low-rank updates of BERT, GPT-2, Llama, Mistral, Gemma and Qwen are
    written in the layout of Hugging Face's PEFT as well, in the folder `peft`, without the head.

    Args:
        model: The run's model, merged; it is not written.
        directory: The folder to write; an earlier export of this format is replaced.
        task: Says how answers are compared.
        labels: What the labels mean.
        evidence: Held-out examples, and what the run kept of them.
        saved_adapter: The run's adapter; known from the run.
        on_base: Loads the base anew with an adapter on it, and answers the examples; likewise.
        name: What the model is called.

    Returns:
        The folder.

    Raises:
        UserError: If the run has no adapter, or the folder holds something else.
        ExportError: If the base with the adapter answers otherwise than the run did; then nothing
            is left behind.

    Example:
        On the command line: `kerasft export RUN export=adapter`.

        >>> require_adapter(Path("no/such/adapter.safetensors"))
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: export=adapter writes what an adapter has learned, and this run...
    """
    require_adapter(saved_adapter)
    with tensors.placed(directory, FORM) as folder:
        file = folder / saved_adapter.name
        shutil.copyfile(saved_adapter, file)
        found = on_base(file)
        report, problems = parity.against_run(found.kept, evidence.kept, task.outputs(labels))
        count = len(found.kept)
        tensors.refuse(FORM, problems, count, "The backbone is not the one of the run.")
        without = found.write_peft(folder / PEFT)
        about = {"name": name, **found.facts, "peft": without or f"{PEFT}/"}
        write_json(folder / ABOUT, about)
        text = _readme(name, file.name, str(found.facts["backbone"]), without)
        (folder / tensors.README).write_text(text, "utf-8")
        sizes = {"adapter": tensors.bytes_of(file),
                 "weights_in_memory": tensors.bytes_of_weights(model)}  # fmt: skip
        tensors.write_parity(folder, FORM, {
            "sizes": sizes, "checked_with": "the base loaded anew, the adapter on it",
            "label_flips": 0, "largest_difference": {"kept": report["largest_difference"]},
        }, count)  # fmt: skip
    return at_home(directory)


def require_adapter(file: Path) -> None:
    """See that a run has an adapter.

    Raises:
        UserError: If not.
    """
    if not file.is_file():
        raise UserError(
            "export=adapter writes what an adapter has learned, and this run has none: it trained "
            "the backbone's own weights. Train with adapt=lora, bias or norm, or choose "
            f"export=saved_model. There is no file {str(file)!r}."
        )


def check_early(*, adapted: bool = True, **_: Any) -> None:
    """See before a training that there will be an adapter."""
    if not adapted:
        raise UserError(
            "export=adapter writes what an adapter has learned, and adapt=none trains the "
            "backbone's own weights. Choose adapt=lora, bias or norm, or another export."
        )


def _readme(name: str, file: str, backbone: str, without: str) -> str:
    """Return what a reader needs to know of the folder."""
    peft = f"PEFT's layout is {without}." if without else (
        f"The folder `{PEFT}` has the low-rank updates in the layout of Hugging Face's PEFT, "
        f'without the head: `PeftModel.from_pretrained(BASE, "{PEFT}")`. BASE must be the model of '
        "transformers with the weights that the backbone here has: PEFT does not compare them."
    )
    return (
        f"# {name}: an adapter\n\n"
        f"`{file}` holds what training changed. It belongs to {backbone}, whose weights have the "
        f"digest in `{ABOUT}`, and is refused on others:\n\n"
        f"    kerasft train adapt=saved adapt.saved.path=THIS_FOLDER backbone.preset={backbone} "
        f"...\n\n{peft}\n"
    )
