"""autoencoder: MLPerf Tiny's dense autoencoder, for anomalies."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn


def autoencoder(sample_shape: tuple[int, ...], outputs: int = 0, *, hidden: int = 128, code: int = 8) -> nn.Module:
    """[N, ...] -> [N, features]: hidden x 4, code, hidden x 4, features; batch norm and ReLU between.

    Its output is the flattened input made again, so `outputs` is not used. 640 features: 267 k parameters.
    """
    features = math.prod(sample_shape)
    widths = [features, *[hidden] * 4, code, *[hidden] * 4]
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, features))
