"""mobilenet: MobileNetV1 by width and resolution."""

from __future__ import annotations

from torch import nn

from minikin.train.zoo.layers import conv, dense, drop, separable

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
SMALL = 64  # pixels: below it the first convolution keeps the size


def mobilenet(sample_shape: tuple[int, ...], outputs: int, *, width: float = 0.25, dropout: float = 0.0) -> nn.Module:
    """[N, C, H, W] -> [N, outputs] logits: conv 3x3, 13 depthwise-separable blocks, pool, dense (arXiv:1704.04861).

    `width` scales every layer's channels; the resolution is the samples'. Width 0.25 at 96x96 is MLPerf Tiny's visual
    wake words. Images below 64 pixels, such as CIFAR-10's, are halved four times instead of five.
    """
    height, columns, channels = sample_shape
    stride = 2 if min(height, columns) >= SMALL else 1
    inside = max(1, round(32 * width))
    layers, size = conv(channels, inside, (3, 3), (stride, stride), (height, columns))
    for wide, stride in BLOCKS:
        outside = max(1, round(wide * width))
        block, size = separable(inside, outside, (stride, stride), size)
        layers, inside = [*layers, *block], outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *drop(dropout), *dense([inside, outputs]))
