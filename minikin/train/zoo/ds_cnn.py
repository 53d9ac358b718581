"""ds_cnn_s, ds_cnn_m, ds_cnn_l: depthwise-separable networks for keywords, of Hello Edge (arXiv:1711.07128)."""

from __future__ import annotations

from functools import partial

from torch import nn

from minikin.train.zoo.layers import Size, conv, dense, drop, separable

ONE: Size = (1, 1)
TWO: Size = (2, 2)


def _ds_cnn(
    channels: int,
    strides: tuple[Size, ...],
    sample_shape: tuple[int, ...],
    outputs: int,
    *,
    dropout: float = 0.0,
) -> nn.Module:
    """[N, C, time, features] -> [N, outputs] logits: conv 10x4, depthwise-separable blocks, pool, dense.

    Every layer has as many channels; `strides` are those of the first convolution and of the blocks.
    """
    height, width, inside = sample_shape
    layers, size = conv(inside, channels, (10, 4), strides[0], (height, width))
    for stride in strides[1:]:
        block, size = separable(channels, channels, stride, size)
        layers += block
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *drop(dropout), *dense([channels, outputs]))


ds_cnn_s = partial(_ds_cnn, 64, (TWO, ONE, ONE, ONE, ONE))  # MLPerf Tiny's keyword spotter
ds_cnn_m = partial(_ds_cnn, 172, ((2, 1), TWO, ONE, ONE, ONE))
ds_cnn_l = partial(_ds_cnn, 276, ((2, 1), TWO, ONE, ONE, ONE, ONE))
