"""What several networks of the zoo are made of."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

Size = tuple[int, int]


def conv(
    inside: int, outside: int, kernel: Size, stride: Size, size: Size, groups: int = 1
) -> tuple[list[nn.Module], Size]:
    """Convolution without bias, batch norm, ReLU; and the output's size, ceil(size / stride).

    The padding is kernel - 1 in all; where that is odd, the larger part is below and on the right.
    """
    (top, left), (bottom, right) = ([(k - 1) // 2 for k in kernel], [k // 2 for k in kernel])
    even = (top, left) == (bottom, right)
    layer = nn.Conv2d(inside, outside, kernel, stride, (top, left) if even else 0, groups=groups, bias=False)
    pad = [] if even else [nn.ZeroPad2d((left, right, top, bottom))]
    return [*pad, layer, nn.BatchNorm2d(outside), nn.ReLU()], (-(-size[0] // stride[0]), -(-size[1] // stride[1]))


def separable(inside: int, outside: int, stride: Size, size: Size) -> tuple[list[nn.Module], Size]:
    """Depthwise 3x3 and pointwise convolution, each with batch norm and ReLU (MobileNet, arXiv:1704.04861)."""
    depthwise, out = conv(inside, inside, (3, 3), stride, size, groups=inside)
    return [*depthwise, *conv(inside, outside, (1, 1), (1, 1), out)[0]], out


def dense(widths: list[int], dropout: float = 0.0) -> list[nn.Module]:
    """Flatten, then dense layers between these widths, with ReLU and dropout behind all but the last."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inside, outside in pairwise(widths[:-1]):
        layers += [nn.Linear(inside, outside), nn.ReLU(), *drop(dropout)]
    return [*layers, nn.Linear(widths[-2], widths[-1])]


def drop(dropout: float) -> list[nn.Module]:
    """A dropout layer, or none at 0."""
    return [nn.Dropout(dropout)] if dropout else []
