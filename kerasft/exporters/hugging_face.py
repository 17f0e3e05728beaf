"""A language model as Hugging Face's transformers reads it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasft.abilities import Generates
from kerasft.contracts import Task
from kerasft.errors import UserError
from kerasft.exporters import language_task, tensors
from kerasft.spec import Labels, Preprocess
from kerasft.system.files import read_json, write_json

if TYPE_CHECKING:
    import keras
    import keras_hub

FORM = "transformers"
TOLERANCE = 1e-4
# KerasHub, by which the folder is proved, rounds this family's weights to float16 as it reads them.
ROUNDED, ROUNDED_TOLERANCE = "MistralBackbone", 2e-2
# KerasHub leaves the class out of some configs; readers such as pipelines look for it.
ARCHITECTURES = {
    "gemma": "GemmaForCausalLM", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
}


def transformers(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocess: Preprocess,
    task: Task,
    labels: Labels,
    examples: Sequence[Any] | None = None,
    name: str = "model",
    tolerance: float | None = None,
) -> Path:
    """Write a language model for Hugging Face's `transformers`, and prove it in a fresh process.

    The folder holds `config.json`, `model.safetensors` and the tokenizer's files, for
    `AutoModelForCausalLM.from_pretrained(FOLDER)`, and for whatever else reads such folders.
    KerasHub writes the families GPT-2, Llama 3, Gemma, Gemma 3, Mistral and Qwen. It reads the
    folder again as it reads any of Hugging Face's, and its logits are compared.

    Args:
        model: The language model.
        directory: The folder to write; an earlier export of this format is replaced.
        preprocess: Turns raw examples into the network's input.
        task: A task that goes on with texts.
        labels: What the labels mean.
        examples: Raw examples to prove the folder on.
        name: What the model is called.
        tolerance: The largest difference that passes. 1e-4 where not given; 0.02 for Mistral,
            whose weights KerasHub rounds to 16 bits when it reads them.

    Returns:
        The folder.

    Raises:
        UserError: If it is no language model of those families, or the folder holds something
            else.
        ExportError: If the folder does not load, or disagrees; then nothing is left behind.

    Example:
        On the command line: `kerasft export RUN export=transformers`.

        >>> from kerasft.tasks.classification import Classification
        >>> check_early(task=Classification())
        Traceback (most recent call last):
        ...
        kerasft.errors.UserError: export=transformers writes language models alone (task=causal_...
    """
    if examples is None or not len(examples):
        raise UserError("export=transformers is proved on at least one example. Received: none.")
    check_early(task=task)
    tensors.require_whole(model, task, labels)
    network = getattr(model, "_parts", None) and model._parts.models.get("network")
    check_network(network=network, task=task)
    rounded = type(getattr(network, "within", network)).__name__ == ROUNDED

    def save(made: keras_hub.models.CausalLM, folder: Path) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.export_to_transformers(str(folder))
        config = read_json(folder / "config.json")
        config.setdefault("architectures", [ARCHITECTURES[config["model_type"]]])
        write_json(folder / "config.json", config)
        return _readme(name)

    return language_task.write(
        model, directory, FORM, save=save, preprocess=preprocess, task=task, labels=labels,
        examples=examples, name=name,
        tolerance=tolerance or (ROUNDED_TOLERANCE if rounded else TOLERANCE),
    )


def check_early(*, task: Task, **_: Any) -> None:
    """See before a training that the export can be made."""
    if not isinstance(task, Generates):
        raise UserError(
            "export=transformers writes language models alone (task=causal_lm), as KerasHub does. "
            f"Received: {type(task).__name__}. Choose export=preset, keras or onnx."
        )


def check_network(*, network: object, task: Task) -> None:
    """See before a training that KerasHub writes the network's family."""
    _, backbone = language_task.require_language_model(network, FORM)
    from keras_hub.src.utils.transformers.export.hf_exporter import MODEL_EXPORTERS

    family = type(backbone).__name__
    if family not in MODEL_EXPORTERS:
        known = ", ".join(one.removesuffix("Backbone") for one in MODEL_EXPORTERS)
        raise UserError(
            f"export=transformers: KerasHub does not write {family.removesuffix('Backbone')} for "
            f"transformers. It writes {known}. Choose export=preset, keras or saved_model."
        )
    if family == "GPT2Backbone" and backbone.intermediate_dim != 4 * backbone.hidden_dim:
        raise UserError(
            "export=transformers: KerasHub, by which what was written is proved, reads GPT-2 with "
            "inner layers four times as wide as the others. Received: a GPT-2 of width "
            f"{backbone.hidden_dim} with {backbone.intermediate_dim}. Choose export=preset."
        )


def _readme(name: str) -> str:
    return f"""# {name}, for Hugging Face's transformers

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```

`{tensors.PREPROCESSING}` says which tokens texts begin and end with. KerasHub reads this, too:
"""
