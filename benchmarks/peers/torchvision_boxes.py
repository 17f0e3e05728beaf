"""Peer: FCOS or Faster R-CNN of torchvision on a MobileNet with Keras' weights, on a processor.

Runs in an environment of its own: PyTorch and TensorFlow in one process disturb each other. The
recipe is that of torchvision's own references (stochastic gradient descent with momentum 0.9,
images flipped), with a rate that falls as a cosine over the time that there is, so that the
schedule always comes to its end.
"""

from __future__ import annotations

import json
import math
import sys
import time

import h5py
import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, feature_pyramid_network

# Filters before the width multiplier, and the stride, of each block of MobileNet.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
          (512, 1), (512, 1), (1024, 2), (1024, 1))  # fmt: skip
# The blocks that end at strides 8, 16 and 32.
ENDS = (5, 11, 13)
WIDTH = 128


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    random = np.random.default_rng(task["seed"])
    with open(task["data"], encoding="utf-8") as file:
        data = json.load(file)
    body = MobileNet(task["alpha"])
    body.load(task["weights"])
    body.require_equal(task["probe"])
    network = build(task, body)
    size = task["size"]
    train = [(image(row["path"], size), scaled(row, size)) for row in data["train"]]
    epochs, seconds = fit(network, train, task, random)
    answers = {name: [predict(network, row["path"], size) for row in data[name]]
               for name in ("validation", "test")}  # fmt: skip
    print(json.dumps({"epochs": epochs, "seconds": seconds, **answers}))


class MobileNet(nn.Module):
    """MobileNet as Keras has it: padding at the lower right where a step is two pixels."""

    def __init__(self, alpha: float):
        super().__init__()
        before = int(32 * alpha)
        self.stem = nn.Conv2d(3, before, 3, stride=2, bias=False)
        self.stem_norm = FrozenBatchNorm2d(before, eps=1e-3)
        self.blocks = nn.ModuleList()
        self.widths = []
        for number, (filters, stride) in enumerate(BLOCKS, start=1):
            after = int(filters * alpha)
            self.blocks.append(nn.ModuleDict({
                "dw": nn.Conv2d(before, before, 3, stride, padding=int(stride == 1), groups=before,
                                bias=False),
                "dw_norm": FrozenBatchNorm2d(before, eps=1e-3),
                "pw": nn.Conv2d(before, after, 1, bias=False),
                "pw_norm": FrozenBatchNorm2d(after, eps=1e-3),
            }))  # fmt: skip
            before = after
            if number in ENDS:
                self.widths.append(after)

    def load(self, weights: str) -> None:
        """Take over the weights of Keras' file."""
        with h5py.File(weights, "r") as file:
            found = {}
            root = file.get("model_weights", file)
            root.visititems(lambda name, node: found.update({
                "/".join(name.split("/")[-2:]).split(":")[0]: np.array(node)
            }) if isinstance(node, h5py.Dataset) else None)  # fmt: skip
        self._convolution(self.stem, found["conv1/kernel"].transpose(3, 2, 0, 1))
        self._norm(self.stem_norm, found, "conv1_bn")
        for number, block in enumerate(self.blocks, start=1):
            kernel = found[f"conv_dw_{number}/kernel"]
            self._convolution(block["dw"], kernel.transpose(2, 3, 0, 1))
            self._norm(block["dw_norm"], found, f"conv_dw_{number}_bn")
            self._convolution(block["pw"], found[f"conv_pw_{number}/kernel"].transpose(3, 2, 0, 1))
            self._norm(block["pw_norm"], found, f"conv_pw_{number}_bn")

    def _convolution(self, layer: nn.Conv2d, kernel: np.ndarray) -> None:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel))

    def _norm(self, layer: FrozenBatchNorm2d, found: dict, name: str) -> None:
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"),
                             ("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            getattr(layer, ours).copy_(torch.from_numpy(found[f"{name}/{theirs}"]))

    def require_equal(self, probe: str) -> None:
        """Require that the features of an image are those of Keras."""
        with np.load(probe) as file, torch.no_grad():
            found = self(torch.from_numpy(file["image"].transpose(0, 3, 1, 2)))["2"].numpy()
            np.testing.assert_allclose(
                found.transpose(0, 2, 3, 1), file["features"], rtol=1e-3, atol=1e-3
            )

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        lower_right = nn.functional.pad
        x = self.stem_norm(self.stem(lower_right(x, (0, 1, 0, 1)))).clamp(0, 6)
        made = {}
        for number, block in enumerate(self.blocks, start=1):
            if block["dw"].stride == (2, 2):
                x = lower_right(x, (0, 1, 0, 1))
            x = block["dw_norm"](block["dw"](x)).clamp(0, 6)
            x = block["pw_norm"](block["pw"](x)).clamp(0, 6)
            if number in ENDS:
                made[str(len(made))] = x
        return made


class Pyramid(nn.Module):
    """A body with torchvision's feature pyramid on it."""

    def __init__(self, body: MobileNet, extra: nn.Module):
        super().__init__()
        self.body = body
        self.pyramid = feature_pyramid_network.FeaturePyramidNetwork(body.widths, WIDTH, extra)
        self.out_channels = WIDTH

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.pyramid(self.body(x))


def build(task: dict, body: MobileNet) -> nn.Module:
    height, width = task["size"]
    common = {
        "num_classes": task["classes"] + 1, "min_size": min(height, width),
        "max_size": max(height, width), "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    if task["model"] == "fcos":
        extra = feature_pyramid_network.LastLevelP6P7(WIDTH, WIDTH)
        return detection.FCOS(Pyramid(body, extra), score_thresh=0.01, **common)
    extra = feature_pyramid_network.LastLevelMaxPool()
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 4)
    return detection.FasterRCNN(
        Pyramid(body, extra), rpn_anchor_generator=anchors, box_score_thresh=0.01,
        rpn_pre_nms_top_n_train=1000, rpn_pre_nms_top_n_test=500, **common,
    )  # fmt: skip


def image(path: str, size: tuple[int, int]) -> torch.Tensor:
    """Return an image at the network's size, antialiased, between 0 and 1."""
    with Image.open(path) as file:
        small = file.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small).transpose(2, 0, 1).astype("float32") / 255)


def shares(path: str, size: tuple[int, int]) -> np.ndarray:
    with Image.open(path) as file:
        return np.array([size[1] / file.width, size[0] / file.height] * 2)


def scaled(row: dict, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    boxes = np.array(row["boxes"], "float64").reshape(-1, 4) * shares(row["path"], size)
    return {"boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor(row["labels"], dtype=torch.int64) + 1}  # fmt: skip


def fit(
    network: nn.Module, train: list, task: dict, random: np.random.Generator
) -> tuple[int, float]:
    weights = [p for p in network.parameters() if p.requires_grad]
    if task["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(weights, task["rate"], momentum=0.9, weight_decay=1e-4)
    else:
        optimizer = torch.optim.AdamW(weights, task["rate"], weight_decay=1e-4)
    network.train()
    began, done, steps, epochs = time.process_time(), 0.0, 0, 0
    while done < 1:
        order = random.permutation(len(train))
        for start in range(0, len(train) - task["batch_size"] + 1, task["batch_size"]):
            done = min((time.process_time() - began) / task["seconds"], 1)
            steps += 1
            warm = min(steps / 50, 1)
            for group in optimizer.param_groups:
                group["lr"] = task["rate"] * warm * (1 + math.cos(math.pi * done)) / 2
            chosen = [flipped(*train[i], random) for i in order[start : start + task["batch_size"]]]
            loss = sum(network([x for x, _ in chosen], [dict(y) for _, y in chosen]).values())
            if not torch.isfinite(loss):
                raise SystemExit(f"the loss is {loss.item()} in step {steps}")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 10.0)
            optimizer.step()
        epochs += 1
        print(f"epoch {epochs}, loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return epochs, time.process_time() - began


def flipped(
    image: torch.Tensor, target: dict, random: np.random.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Flip an image in each direction, half of the times."""
    boxes = target["boxes"].clone()
    for axis, side in ((2, 0), (1, 1)):
        if random.random() < 0.5:
            image = image.flip(axis)
            boxes[:, [side, side + 2]] = image.shape[axis] - boxes[:, [side + 2, side]]
    return image, {**target, "boxes": boxes}


def predict(network: nn.Module, path: str, size: tuple[int, int]) -> dict:
    network.eval()
    with torch.no_grad():
        (found,) = network([image(path, size)])
    boxes = found["boxes"].numpy() / shares(path, size)
    return {"boxes": boxes.tolist(), "scores": found["scores"].tolist(),
            "classes": (found["labels"] - 1).tolist()}  # fmt: skip


if __name__ == "__main__":
    main()
