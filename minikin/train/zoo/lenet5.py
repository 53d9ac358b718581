"""lenet5: LeNet-5 as Caffe has it, the network that compression papers measure."""

from __future__ import annotations

from torch import nn

from minikin.errors import UsageError
from minikin.train.zoo.layers import dense

KERNEL = 5


def lenet5(sample_shape: tuple[int, ...], outputs: int, *, dropout: float = 0.0) -> nn.Module:
    """[N, C, H, W] -> [N, outputs] logits: conv 20@5x5, pool 2, conv 50@5x5, pool 2, dense 500, dense; 431,080 parameters.

    On 28x28x1: 24x24x20 -> 12x12x20 -> 8x8x50 -> 4x4x50 -> 800 -> 500 -> 10. ReLU after each convolution, no padding.
    """
    height, width, channels = sample_shape
    rows, columns = ((((size - KERNEL + 1) // 2) - KERNEL + 1) // 2 for size in (height, width))
    if rows < 1 or columns < 1:
        raise UsageError(f"lenet5 needs samples of at least 16x16, not {height}x{width}: choose digits_cnn")
    return nn.Sequential(
        nn.Conv2d(channels, 20, KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *dense([50 * rows * columns, 500, outputs], dropout),
    )
