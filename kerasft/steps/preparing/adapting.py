"""Adapters in a run: announced, written, and merged into the model that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from kerasft.abilities import Generates
from kerasft.config.adapters import problems
from kerasft.config.composition import compose, plain
from kerasft.contracts import Task
from kerasft.data.preprocessing import prepare
from kerasft.exporters.parity import against_run
from kerasft.model.adapting.adaptation import adaptation_of
from kerasft.model.adapting.adaptation import merge as merged
from kerasft.runs import evidence
from kerasft.runs.finetuned import FineTuned
from kerasft.runs.run_folder import RunFolder
from kerasft.spec import Backbone
from kerasft.system.console import say

if TYPE_CHECKING:
    import keras

# How many times the backbone's usual rate each kind takes: the fewer weights train, the larger the
# steps that they bear and need. On 1,000 texts of sst2 (docs/levers.md) norms came to 0.73
# at 10 times and to 0.81 at 40 times.
FASTER = {"lora": 10.0, "saved": 10.0, "bias": 40.0, "norm": 40.0}

# What is chosen where nobody does: `adapt=auto`, and of how many weights on a language model is
# large: all of them, their gradients and Adam's two moments take 16 bytes each.
AUTO, LARGE = "auto", 300_000_000


def settle(cfg: DictConfig, task: Task, backbone: Backbone, *, quiet: bool = False) -> None:
    """Have a large language model adapted by LoRA, where the user chooses nothing.

    Args:
        cfg: The config, whose `adapt` is changed in place.
        task: Its task.
        backbone: Its network.
        quiet: Whether nothing is said.
    """
    if AUTO not in (cfg.adapt or {}) or any(cfg.adapt.values()):
        return
    weights = backbone.network.count_params()
    if not isinstance(task, Generates) or weights <= LARGE:
        return
    chosen = cfg.copy()
    chosen.adapt = compose(["adapt=lora"]).adapt
    if any(problems(OmegaConf.create(plain(chosen)))):  # the head trains alone, say
        return
    cfg.adapt = chosen.adapt
    if not quiet:
        say(f"adapt=lora, as {backbone.name} has {weights / 1e6:,.0f} M weights, more than "
            f"{LARGE / 1e6:,.0f} M; adapt=none trains all of them")


def may_adapt(cfg: DictConfig) -> bool:
    """Whether a config adapts its network, as far as is known before that is loaded."""
    return AUTO in (cfg.adapt or {}) or any((cfg.adapt or {}).values())


def without(cfg: DictConfig) -> DictConfig:
    """Return a config that adapts nothing: random weights have nothing to be adapted."""
    plain = cfg.copy()
    plain.adapt = {}
    return plain


def usual_rate(cfg: DictConfig, backbone: Backbone) -> float:
    """Return the peak rate for the backbone, where the user chooses none.

    Of several adapters, the one that needs the lowest rate decides; of your own, none does.
    """
    nodes = [node for node in (cfg.adapt or {}).values() if node]
    factors = [FASTER.get(str(node["_target_"]).rpartition(".")[2], 1.0) for node in nodes]
    return backbone.learning_rate * min(factors, default=1.0)


def announce(model: keras.Model) -> None:
    """Say how a model is adapted, if it is."""
    if found := adaptation_of(model):
        for note in found.notes:
            say(f"adapt: {note}")


def write(model: keras.Model, folder: RunFolder | None, backbone: Backbone) -> None:
    """Write the adapter of a trained model beside the model itself, if it has one."""
    from kerasft.model.adapting.adapter_file import write_adapter

    if folder is None or adaptation_of(model) is None:
        return
    folder.network.parent.mkdir(parents=True, exist_ok=True)
    size = write_adapter(folder.adapter, model, backbone=backbone.name)
    say(f"adapter: {folder.adapter} ({size / 1e6:.2f} MB)")


def merge(finetuned: FineTuned, folder: RunFolder) -> None:
    """Merge the adapters of a measured model, and prove that it answers as before.

    What the run keeps of its held-out examples was computed with the adapters beside the kernels.
    Exports, too, are held against that.

    Args:
        finetuned: The model; it is changed in place.
        folder: The run folder, with the run's evidence.

    Raises:
        RuntimeError: If the merged model computes something else.
    """
    if (found := adaptation_of(finetuned.model)) is None:
        return
    updates = len(found.layers)
    merged(finetuned.model)
    if not updates:  # biases and norms train in their places
        return
    kept = evidence.read(folder)
    targets = finetuned.targets(kept.examples.annotations)
    now = finetuned.measure(prepare(kept.examples, finetuned.preprocess), targets).rows
    report, problems = against_run(now, kept.kept, finetuned.rules)
    if problems:
        raise RuntimeError(
            f"The merged model is not the one that was trained: {problems[0]}. A layer of this "
            "backbone uses its kernel in a way that an adapter beside it does not see. Choose "
            "other layers: adapt.lora.targets."
        )
    say(f"merged: {updates} adapters; largest difference {report['largest_difference']:.2g} on "
        f"{len(now)} held-out examples")
