"""What convolutions and pools share: a window that slides over the rows and columns of an NHWC frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minikin.graph import View
from minikin.ops.opdef import Field, Range, require
from minikin.ops.padding import Padding

CHUNK_ELEMS = 1 << 20
"""Elements that an evaluation gathers at a time: memory stays near that of the input and the output."""


def more_padding(own: Padding, around: tuple[tuple[int, int], ...]) -> Padding | None:
    """A window's own padding and that around the rows and columns of its input; None where it is around other axes."""
    if len(around) != 4 or any(around[0]) or any(around[3]):
        return None
    (top, bottom), (left, right) = around[1:3]
    return own[0] + top, own[1] + bottom, own[2] + left, own[3] + right


@dataclass(frozen=True)
class Window:
    """(height, width) pairs; padding is (top, bottom, left, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def extent(self) -> tuple[int, int]:
        """Input rows and columns from the window's first tap to its last."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def output_size(self, view: View) -> tuple[int, int]:
        """Output rows and columns; raises where a number makes no sense or the window does not fit."""
        require(len(view.x.shape) == 4, view, f"input {view.x.shape} is not [batch, height, width, channels]")
        for what in ("kernel", "stride", "dilation"):
            sizes = getattr(self, what)
            require(min(sizes) > 0, view, f"{what} {sizes} must be positive")
        require(min(self.padding) >= 0, view, f"padding {self.padding} must not be negative")
        _, height, width, _ = view.x.shape
        top, bottom, left, right = self.padding
        padded = (height + top + bottom, width + left + right)
        require(
            padded[0] >= self.extent[0] and padded[1] >= self.extent[1],
            view,
            f"a window of {self.extent} does not fit input {view.x.shape} padded to {padded}",
        )
        rows, cols = ((p - e) // s + 1 for p, e, s in zip(padded, self.extent, self.stride, strict=True))
        return rows, cols

    def rows(self, lo: int, hi: int) -> Range:
        """Input rows that output rows [lo, hi) need; padding lies below 0 and past the frame's end."""
        first = lo * self.stride[0] - self.padding[0]
        return first, first + (hi - lo - 1) * self.stride[0] + self.extent[0]

    def chunks(self, x: np.ndarray, out_rows: int, row_elems: int, fill: float) -> Iterator[tuple[slice, np.ndarray]]:
        """(output rows, padded input rows) in pieces for which `row_elems` per output row stay under CHUNK_ELEMS."""
        step = max(1, CHUNK_ELEMS // max(1, row_elems))
        height, (_, _, left, right) = x.shape[1], self.padding
        for lo in range(0, out_rows, step):
            hi = min(lo + step, out_rows)
            first, last = self.rows(lo, hi)
            above, below = max(0, min(-first, last - first)), max(0, min(last - height, last - first))
            part = x[:, max(0, first) : max(0, min(last, height))]
            pads = ((0, 0), (above, below), (left, right), (0, 0))
            yield slice(lo, hi), np.pad(part, pads, constant_values=fill) if any(map(any, pads)) else part

    def views(self, padded: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """(ky, kx, the padded input as that tap sees it: [batch, output rows, output columns, channels])."""
        (eh, ew), (sh, sw), (dh, dw) = self.extent, self.stride, self.dilation
        _, height, width, _ = padded.shape
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                rows = slice(ky * dh, ky * dh + height - eh + 1, sh)
                yield ky, kx, padded[:, rows, kx * dw : kx * dw + width - ew + 1 : sw]

    def patches(self, padded: np.ndarray) -> np.ndarray:
        """[batch, output rows, output columns, kernel_h, kernel_w, channels], a view."""
        (sh, sw), (dh, dw) = self.stride, self.dilation
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.extent, axis=(1, 2))
        return windows[:, ::sh, ::sw, :, ::dh, ::dw].transpose(0, 1, 2, 4, 5, 3)

    def counts(self, in_size: tuple[int, int], out_size: tuple[int, int]) -> np.ndarray:
        """[output rows, output columns, 1]: taps of each window that lie inside the frame."""
        inside = []
        for axis, before in ((0, self.padding[0]), (1, self.padding[2])):
            taps = np.arange(self.kernel[axis]) * self.dilation[axis] - before
            at = np.arange(out_size[axis])[:, None] * self.stride[axis] + taps
            inside.append(((at >= 0) & (at < in_size[axis])).sum(axis=1))
        return (inside[0][:, None] * inside[1])[..., None]

    def fields(self, view: View) -> dict[str, Field]:
        """The fields that every windowed kernel starts with (a pool has no dilation and so leaves that out)."""
        return {
            "in_w": view.x.shape[2],
            "in_ch": view.x.shape[3],
            "out_w": view.y.shape[2],
            "kernel_h": self.kernel[0],
            "kernel_w": self.kernel[1],
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "pad_left": self.padding[2],
        }


def conv_window(view: View) -> Window:
    """That of a node with weights [.., height, width, ..] and the attributes of a convolution."""
    attrs, weights = view.attrs, view.inputs[1]
    assert weights is not None
    _, height, width, _ = weights.shape
    return Window((height, width), attrs.stride, attrs.dilation, attrs.padding)


def needs_patch(view: View) -> bool:
    """Whether a convolution's inputs of a pixel must be gathered: false where they lie side by side in one unpadded row."""
    geometry, weights = conv_window(view), view.inputs[1]
    assert weights is not None
    kernel_h, kernel_w = geometry.kernel
    one_row = kernel_h == 1 and (kernel_w == 1 or (geometry.dilation[1] == 1 and weights.shape[3] == view.x.shape[3]))
    return not one_row or any(geometry.padding)
