"""resnet8: MLPerf Tiny's image classifier."""

from __future__ import annotations

import torch
from torch import nn

from minikin.train.zoo.layers import conv, dense

CHANNELS = (16, 32, 64)


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))"""

    def __init__(self, body: list[nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*body), shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet8(sample_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, C, H, W] -> [N, outputs] logits: conv 16, three residual blocks of 16, 32, 64 channels, pool, dense; 78 k parameters.

    The second and third block halve the size, and their shortcut is a 1x1 convolution (MLPerf Tiny, arXiv:2106.07597).
    """
    height, width, channels = sample_shape
    layers, size = conv(channels, CHANNELS[0], (3, 3), (1, 1), (height, width))
    inside = CHANNELS[0]
    for outside in CHANNELS:
        stride = 1 if outside == inside else 2
        first, size = conv(inside, outside, (3, 3), (stride, stride), size)
        second, size = conv(outside, outside, (3, 3), (1, 1), size)
        shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride)
        layers.append(Residual([*first, *second[:-1]], shortcut))
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *dense([inside, outputs]))
