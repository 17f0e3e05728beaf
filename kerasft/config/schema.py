"""The typed root of a config: our own scalars, and one field for each step of the flow."""

from __future__ import annotations

import dataclasses
from typing import Any

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
BASELINES = (None, "scratch")
FLOORS = ("auto", "always", "none")

# The groups, in the order of the data flow, with what the run hands to their nodes at build time.
RUNTIME: dict[str, frozenset[str]] = {
    "data": frozenset({"kind", "seed", "slices"}),
    "sampling": frozenset(),
    "augment": frozenset(),
    "task": frozenset(),
    "backbone": frozenset({"pretrained"}),
    "surgery": frozenset(),
    "head": frozenset({"features", "units", "classes", "channels", "tags"}),
    "regularize": frozenset({"model", "task"}),
    "adapt": frozenset({"model"}),
    "optimizer": frozenset({"learning_rate"}),
    "schedule": frozenset({"learning_rate", "total_steps"}),
    "average": frozenset(),
    "finetune": frozenset(),
    "callbacks": frozenset({"monitor", "mode", "output_dir"}),
    "checkpoint": frozenset(),
    "faults": frozenset(),
    "cache": frozenset(),
    "export": frozenset(
        {"model", "directory", "preprocess", "task", "labels", "evidence", "examples", "about",
         "at_rest", "saved_adapter", "on_base", "name"}
    ),
}
# What every config of a run has held.
ALWAYS = ("data", "task", "backbone", "head", "optimizer", "finetune")
# Groups that hold several named nodes; the others are one node each.
NAMED = ("augment", "surgery", "regularize", "adapt", "average", "finetune", "callbacks", "export")

# Groups whose choices set keys of all the others; a later one has the last word.
OF_ALL = ("experiment", "recipe", "debug")
# Those that set a part of another group's node: a template is one of the task.
WITHIN = ("template",)


@dataclasses.dataclass
class Root:
    """The root config: our own scalars, then one field for each step, in order.

    Args:
        name: Names the folder of the run below `outputs/`.
        seed: Decides the split, the order, the augmentation and the initial weights.
        epochs: Passes over the training examples, for stages that set none of their own.
        batch_size: Examples in a training step. `auto` measures a few steps and takes the most that
            fit in memory: a divisor of `effective_batch`, with as many
            `optimizer.gradient_accumulation_steps` as make an update learn from all of it.
        effective_batch: What an update learns from with `batch_size=auto`: examples, or tokens with
            `batch_tokens`. `None` means what `batch_size` (`batch_tokens`) would be without `auto`,
            times `optimizer.gradient_accumulation_steps`.
        memory_gb: The most memory that `batch_size=auto` may plan with, in GB, all that the process
            holds counted; `None` means what is available on the machine and in its container.
        batch_tokens: The most tokens in a training step, padding counted, for texts; there are then
            as many texts in a batch as fit, and `batch_size` is not looked at.
        eval_batch_size: Examples in a prediction step of a device; `None` means twice its share of
            `batch_size`. Validation takes its loss of twice `batch_size` examples then, however
            many devices share them.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`; `auto` takes `mixed_bfloat16`
            where the processor or the GPU multiplies in it, else `float32`.
        output_dir: The folder of the run; `None` means `outputs/NAME/STAMP`.
        resume: `auto` goes on with what stands in `output_dir`, where an earlier call of the same
            command was stopped; `accept` too, and even where config or data have changed; `None`
            wants a new folder.
        max_time: Minutes after which training stops, its checkpoint written, so that the process
            ends in time and the run can go on; `None` for no limit.
        budget: The time that training may take, such as `90s`, `10m` or `1h`; a plain number counts
            minutes. A few steps of each stage are timed, and at most `epochs` epochs chosen that
            fit, or the computed head alone, or some steps; what was chosen is said as overrides.
            Training ends in time, with the best weights so far. Measuring and exporting come on
            top. `None` for no limit.
        baseline: `scratch` also trains the same network from random weights, to compare.
        floor: What the run is held against at its end: logistic regression (ridge regression for
            numbers) on the features of the backbone as it was before training, and for texts on
            counts of words and pairs of words (TF-IDF). `auto` leaves the features out where they
            would take more than about 5 % of the run; `always`; `none`.
        max_steps: Ends each stage after so many steps; for trying a recipe out.
        training_sample: How many training examples are measured again at the end, without
            augmentation and dropout, so that they can be compared with validation; at most as many
            as there are for validation. 0 for none.
        slices: Columns of the data, one or several (`slices=[language,source]`), by whose values
            figures of validation and test are told apart, the worst first, each with its interval.
            `length` is that of texts in words and needs no column. `None` for none.
        plots: Whether learning curves, confusion matrices and the like are drawn into the run
            folder; `false` ends a run some seconds earlier.
        distribute: What the run trains on: `mirrored` takes all GPUs of the machine, `multi_worker`
            several processes, which TF_CONFIG, SLURM or an indexed Kubernetes Job name; `auto` what
            there is of these, workers first; `None` one device. `batch_size` is that of all devices
            together.
        distribute_timeout: Seconds that the processes of `multi_worker` wait for one another.
        deterministic: Whether operations compute the same bits each time, which a run needs that is
            repeated or resumed to the last bit. `auto` means `true`, so far on all devices; `false`
            lets a GPU take faster kernels, and operations that have no other.
        jit_compile: Whether XLA compiles the training step, once for each width of a batch; Keras'
            own layers then run in fewer passes on a GPU. Needs `deterministic=false`; dropout may
            draw other random numbers.
        prefetch_to_device: Whether batches are copied to the GPU before the step asks for them;
            without a GPU nothing changes.
        length_grouping: Whether batches of text hold texts of similar length.
        fast: Whether the optimizer and some layers compute in fused operations; `false` takes
            Keras' own. Both give the same result up to rounding in a network without dropout. On
            processors dropout draws other random bits than Keras', so that a run with dropout comes
            out as with another seed.
        progress: Whether to show what is being done and a bar of the epoch at work; `None` means
            only on a terminal.
    """

    name: str = "run"
    seed: int = 0
    epochs: int = 10
    batch_size: int | str = 32
    effective_batch: int | None = None
    memory_gb: float | None = None
    batch_tokens: int | None = None
    eval_batch_size: int | None = None
    precision: str = "float32"
    output_dir: str | None = None
    resume: str | None = None
    max_time: float | None = None
    budget: int | float | str | None = None
    baseline: str | None = None
    floor: str = "auto"
    max_steps: int | None = None
    training_sample: int = 512
    slices: Any = None
    plots: bool = True
    distribute: str | None = None
    distribute_timeout: float = 600
    deterministic: bool | str = "auto"
    jit_compile: bool = False
    prefetch_to_device: bool = False
    length_grouping: bool = True
    fast: bool = True
    progress: bool | None = None
    data: Any = None
    sampling: Any = None
    augment: Any = None
    task: Any = None
    backbone: Any = None
    surgery: Any = None
    head: Any = None
    regularize: Any = None
    adapt: Any = None
    optimizer: Any = None
    schedule: Any = None
    average: Any = None
    finetune: Any = None
    callbacks: Any = None
    checkpoint: Any = None
    faults: Any = None
    cache: Any = None
    export: Any = None


SCALARS = tuple(f.name for f in dataclasses.fields(Root) if f.name not in RUNTIME)
