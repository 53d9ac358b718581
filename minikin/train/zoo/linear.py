"""linear, logistic: one dense layer; the loss and what stands behind it tell the two regressions apart."""

from __future__ import annotations

import math

from torch import nn

from minikin.train.zoo.layers import dense


def linear(sample_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, ...] -> [N, outputs]: w x + b, values for mean squared error, logits for (binary) cross-entropy."""
    return nn.Sequential(*dense([math.prod(sample_shape), outputs]))
