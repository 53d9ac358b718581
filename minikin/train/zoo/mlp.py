"""mlp, lenet300, dnn: dense layers with ReLU between."""

from __future__ import annotations

import math

from torch import nn

from minikin.train.zoo.layers import dense


def mlp(sample_shape: tuple[int, ...], outputs: int, *, hidden: int = 20, dropout: float = 0.0) -> nn.Module:
    """[N, ...] -> [N, outputs] logits: 784-20-10 on MNIST, 15,910 parameters, the course's first network."""
    return _network(sample_shape, [hidden], outputs, dropout)


def lenet300(sample_shape: tuple[int, ...], outputs: int, *, dropout: float = 0.0) -> nn.Module:
    """LeNet-300-100 (LeCun et al. 1998): 784-300-100-10 on MNIST, 266,610 parameters."""
    return _network(sample_shape, [300, 100], outputs, dropout)


def dnn(sample_shape: tuple[int, ...], outputs: int, *, hidden: int = 144, dropout: float = 0.0) -> nn.Module:
    """Three hidden layers of one width, for keywords: 144, 256 and 436 are S, M and L of Hello Edge (arXiv:1711.07128)."""
    return _network(sample_shape, [hidden] * 3, outputs, dropout)


def _network(sample_shape: tuple[int, ...], hidden: list[int], outputs: int, dropout: float) -> nn.Module:
    return nn.Sequential(*dense([math.prod(sample_shape), *hidden, outputs], dropout))
