"""What the kernels of conv2d and dense for RISC-V and Cortex-M0+ ask of the compiler (kernels/mk_mat_x4.h)."""

from __future__ import annotations

import numpy as np

from minikin.graph import View
from minikin.ops.conv_mve import (
    GROUP,
    conv_columns,
    conv_rows,
    copied_pixels,
    output_fields,
    padded_to,
    takes_conv,
    takes_dense,
    window_weights,
)
from minikin.ops.opdef import Field, Kernel, Scratch
from minikin.ops.packing import PackedChannels, packed_channels
from minikin.ops.requant import quant_of, weights_of
from minikin.ops.window import conv_window


def pack_groups(channels: PackedChannels) -> np.ndarray:
    """The stream of mk_mat_x4.h: of each four channels the biases, weights by input, multipliers and exponents."""
    w = padded_to(channels.weights, GROUP, 0).astype(np.int8)
    words = np.ascontiguousarray(w.reshape(-1, GROUP, w.shape[1]).transpose(0, 2, 1)).view("<i4")[..., 0]
    bias, mult = (padded_to(values, GROUP, 0).reshape(-1, GROUP) for values in (channels.bias, channels.mult))
    exponents = padded_to(channels.shift + 1, GROUP, 0).astype(np.int8).reshape(-1, GROUP).view("<i4")
    return np.concatenate([bias, words, mult, exponents], axis=1).astype(np.int32).reshape(-1)


def product_fields(view: View, weights: np.ndarray) -> dict[str, Field]:
    fields = output_fields(view)
    del fields["is_signed"]
    return fields | {"stream": pack_groups(packed_channels(view, weights))}


def conv_scratch(view: View, rows: int) -> int:
    """A row's columns of all kernel rows, where windows are not read in place."""
    in_place = copied_pixels(view) is not None
    return 0 if in_place else conv_columns(view) * conv_window(view).kernel[0] * view.x.shape[3]


def pack_conv(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    kept = ("in_w", "in_ch", "out_w", "stride_h", "stride_w", "pad_left", "dilation_h", "kernel_h")
    return {
        **{name: fields[name] for name in kept},
        "zero": quant_of(view.x).zero_point,
        "columns": conv_columns(view),
        "out_ch": view.y.shape[3],
        "inputs": weights_of(view).size // view.y.shape[3],
        **product_fields(view, window_weights(view)),
        "buffer": Scratch() if conv_scratch(view, 1) else None,
    }


def pack_dense(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return {
        **{name: fields[name] for name in ("batch", "in_ch", "out_ch")},
        **product_fields(view, np.asarray(weights_of(view).data)),
    }


CONV_X4 = tuple(
    Kernel(
        name="mk_conv2d_s8_x4",
        isa=isa,
        uses=("mk_mat_x4.h",),
        when=takes_conv,
        pack=pack_conv,
        scratch=conv_scratch,
        whole_rows=conv_rows,
    )
    for isa in ("rv", "v6m")
)
DENSE_X4 = tuple(
    Kernel(name="mk_dense_s8_x4", isa=isa, uses=("mk_mat_x4.h",), when=takes_dense, pack=pack_dense)
    for isa in ("rv", "v6m")
)
