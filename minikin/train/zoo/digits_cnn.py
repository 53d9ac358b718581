"""digits_cnn: a small convolutional network for 8x8 digits."""

from __future__ import annotations

from torch import nn

from minikin.train.zoo.layers import conv, dense, separable


def digits_cnn(sample_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """[N, C, H, W] -> [N, outputs] logits: conv, two depthwise-separable blocks, dense; each with batch norm and ReLU.

    On 8x8x1: 8x8x16 -> 8x8x16 -> 4x4x24 -> 384 features -> 10; 5 k parameters.
    """
    height, width, channels = sample_shape
    first, size = conv(channels, 16, (3, 3), (1, 1), (height, width))
    second, size = separable(16, 16, (1, 1), size)
    third, size = separable(16, 24, (2, 2), size)
    return nn.Sequential(*first, *second, *third, *dense([24 * size[0] * size[1], outputs]))
