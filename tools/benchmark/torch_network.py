"""The network as torch modules, a fold over the table: what a torchvision user runs, with any of our weights."""

from __future__ import annotations

import numpy as np
import torch

from inception.architecture import Concat, Conv, Ops, Pool, fold
from inception.variants import SCOPE
from inception.weights import Weights


class Network(torch.nn.Module):  # type: ignore[misc]
    """Images [n, 3, h, w] -> probabilities [n, classes], or pooled features [n, 2048] of weights without classes."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._base = weights.variant.table().base
        self._ops = _Modules(weights)
        fold(self._ops, self._base, None)
        self.units = torch.nn.ModuleList(self._ops.units.values())
        self.classifier = None
        if weights.variant.num_classes:
            kernel = _tensor(weights, "Logits/Conv2d_1c_1x1/weights")[0, 0].T.contiguous()
            self.classifier = torch.nn.Linear(kernel.shape[1], kernel.shape[0])
            self.classifier.weight.data = kernel
            self.classifier.bias.data = _tensor(weights, "Logits/Conv2d_1c_1x1/biases")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for row in self._base:
            x = fold(self._ops, [row], x)[row.name]
        x = x.mean((2, 3))
        return x if self.classifier is None else torch.softmax(self.classifier(x), -1)


class _Modules(Ops[torch.Tensor | None]):
    """The three kinds of node; a pass over None makes the modules, one over a tensor runs them."""

    def __init__(self, weights: Weights) -> None:
        self.units: dict[str, torch.nn.Module] = {}
        self._weights = weights

    def conv(self, node: Conv, x: torch.Tensor | None, path: str) -> torch.Tensor | None:
        if x is None:
            self.units[path] = _unit(self._weights, node, path)
            return None
        result: torch.Tensor = self.units[path](x)
        return result

    def pool(self, node: Pool, x: torch.Tensor | None, path: str) -> torch.Tensor | None:
        if x is None:
            return None
        padding = _padding(node)
        if node.kind == "max":
            return torch.nn.functional.max_pool2d(x, node.kernel, node.stride, padding)
        border = self._weights.variant.border == "include"
        return torch.nn.functional.avg_pool2d(x, node.kernel, node.stride, padding, count_include_pad=border)

    def concat(self, node: Concat, xs: list[torch.Tensor | None], path: str) -> torch.Tensor | None:
        return None if xs[0] is None else torch.cat(xs, 1)  # type: ignore[arg-type]


def _unit(weights: Weights, node: Conv, path: str) -> torch.nn.Module:
    kernel = _tensor(weights, f"{path}/weights").permute(3, 2, 0, 1).contiguous()
    convolution = torch.nn.Conv2d(
        kernel.shape[1], kernel.shape[0], node.kernel, node.stride, _padding(node), bias=False
    )
    norm = torch.nn.BatchNorm2d(kernel.shape[0], eps=1e-3)
    convolution.weight.data = kernel
    norm.bias.data = _tensor(weights, f"{path}/BatchNorm/beta")
    norm.running_mean = _tensor(weights, f"{path}/BatchNorm/moving_mean")
    norm.running_var = _tensor(weights, f"{path}/BatchNorm/moving_variance")
    if weights.variant.gamma:
        norm.weight.data = _tensor(weights, f"{path}/BatchNorm/gamma")
    return torch.nn.Sequential(convolution, norm, torch.nn.ReLU(inplace=True)).train(False)


def _padding(node: Conv | Pool) -> tuple[int, int]:
    """Windows of padding SAME move by one here, and their sides are odd."""
    height, width = node.kernel
    return ((height - 1) // 2, (width - 1) // 2) if node.padding == "SAME" else (0, 0)


def _tensor(weights: Weights, name: str) -> torch.Tensor:
    return torch.from_numpy(np.array(weights.arrays[f"{SCOPE}/{name}"]))
