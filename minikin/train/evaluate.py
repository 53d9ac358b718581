"""What a network gives for samples, and how often it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

EVALUATION_BATCH = 1024


def to_nchw(x: np.ndarray) -> torch.Tensor:
    """Samples as torch models take them: [N, H, W, C] -> [N, C, H, W]; other ranks as they are.

    The memory stays as it is, channels last, which is also how torch convolves fastest on a CPU.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(x, np.float32))
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def predict(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The model's outputs for NHWC samples, in evaluation mode."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluation(model), torch.inference_mode():
        outputs = [model(batch.to(device)).cpu().numpy() for batch in torch.split(to_nchw(x), EVALUATION_BATCH)]
    return np.concatenate(outputs)


def evaluate(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy, 0..1, on NHWC samples; of one output, a logit above 0 is class 1."""
    if not len(y):
        return math.nan
    outputs = predict(model, x)
    chosen = outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else outputs.reshape(-1) > 0
    return float(np.mean(chosen == y))


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; each part's own mode is put back."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
