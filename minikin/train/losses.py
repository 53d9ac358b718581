"""Losses: what a batch costs, what its target is, and how many outputs a network needs for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from minikin.data.dataset import Dataset
from minikin.train.options import FitOptions


@dataclass(frozen=True)
class Loss:
    """`batch(outputs, x, y, label_smoothing)` is the mean loss; `outputs(dataset)` is the width of the last layer.

    `correct(outputs, y)` tells which samples are right; None where there are no classes.
    """

    batch: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    correct: Callable[[Any, Any], Any] | None
    outputs: Callable[[Dataset], int]


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        lambda outputs, x, y, smoothing: functional.cross_entropy(outputs, y, label_smoothing=smoothing),
        lambda outputs, y: outputs.argmax(-1) == y,
        lambda dataset: len(dataset.classes),
    ),
    "binary": Loss(
        lambda outputs, x, y, smoothing: functional.binary_cross_entropy_with_logits(
            outputs.flatten(), y.float() * (1 - smoothing) + 0.5 * smoothing
        ),
        lambda outputs, y: (outputs.reshape(-1) > 0) == y,
        lambda dataset: 1,
    ),
    "mse": Loss(
        lambda outputs, x, y, smoothing: functional.mse_loss(outputs, y.reshape(outputs.shape)),
        None,
        lambda dataset: math.prod(dataset.y_train.shape[1:]),
    ),
    "reconstruction": Loss(
        lambda outputs, x, y, smoothing: functional.mse_loss(outputs, x.flatten(1)),
        None,
        lambda dataset: math.prod(dataset.sample_shape),
    ),
}


def loss_name(dataset: Dataset, name: str | None) -> str:
    """`name`, or where it is None: mse for data without classes, else cross_entropy."""
    return name or ("cross_entropy" if dataset.classes else "mse")


def loss_of(dataset: Dataset, name: str | None) -> Loss:
    return LOSSES[loss_name(dataset, name)]


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch (Hinton et al., arXiv:1503.02531)."""
    soft = functional.log_softmax(teacher / temperature, -1)
    own = functional.log_softmax(student / temperature, -1)
    return temperature**2 * functional.kl_div(own, soft, log_target=True, reduction="batchmean")


def batch_loss(loss: Loss, options: FitOptions, outputs: Tensor, x: Tensor, y: Tensor, taught: Tensor | None) -> Tensor:
    """The loss of a batch, mixed with that of a teacher's outputs where there are such.

    Scores of classes are distilled; of values, and of a single score, it is the mean squared difference.
    """
    own = loss.batch(outputs, x, y, options.label_smoothing)
    if taught is None:
        return own
    weight, scores = options.distill_weight, loss.correct is not None and outputs.shape[-1] > 1
    taught_loss = distillation(outputs, taught, options.temperature) if scores else functional.mse_loss(outputs, taught)
    return (1 - weight) * own + weight * taught_loss
