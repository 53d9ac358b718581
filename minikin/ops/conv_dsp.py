"""What the DSP kernels of conv2d and depthwise_conv2d ask of the compiler: which nodes they take, how weights are packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minikin.graph import View
from minikin.ops.fitting import FRACTION, find_steps, once_per_view, packed_channels
from minikin.ops.opdef import Field, Scratch, activation_range
from minikin.ops.packing import (
    GROUP,
    are_exact,
    exact_fields,
    is_symmetric,
    pack_stream,
    takes_exact,
    takes_fitted,
)
from minikin.ops.requant import quant_of, weights_of
from minikin.ops.window import conv_window


def takes_conv(view: View) -> bool:
    """int8 without groups, and the proofs of mk_mat_s8.h hold."""
    return _is_plain(view) and takes_exact(view, span_weights(view))


def takes_conv_fitted(view: View) -> bool:
    """The same with outputs of the fitted form."""
    return _is_plain(view) and takes_fitted(view, span_weights(view))


def _is_plain(view: View) -> bool:
    return is_symmetric(view) and weights_of(view).shape[3] == view.x.shape[3]


def span_weights(view: View) -> np.ndarray:
    """[channels, inputs] in the order in which mk_conv2d_s8_dsp widens: the quads of all spans, then what is left over."""
    w = weights_of(view).data
    assert w is not None
    spans = w.reshape(len(w), -1, span_cols(view) * w.shape[3])
    whole = spans.shape[2] & ~3
    return np.concatenate([spans[..., :whole].reshape(len(w), -1), spans[..., whole:].reshape(len(w), -1)], axis=1)


def span_cols(view: View) -> int:
    """Adjacent columns of an input row that a window reads together."""
    geometry = conv_window(view)
    return geometry.kernel[1] if geometry.dilation[1] == 1 else 1


def rest_bytes(view: View) -> int:
    """Scratch memory for the bytes that a pixel's spans leave over behind whole quads."""
    inputs, size = span_weights(view).shape[1], span_cols(view) * view.x.shape[3]
    left = inputs // size * (size % 4)
    return left + -left % 4


def conv_rows(view: View) -> int:
    """Rows of one call where tensors are kept whole: narrow ones together, even where pixels would have no partner."""
    width, stride = view.y.shape[2], view.attrs.stride[0]
    rows = max(1, min(16 // width, (12 - conv_window(view).extent[0]) // stride + 1))
    return rows + width * rows % 2


def pairs(view: View) -> int:
    """Pairs of pixels that are widened together: what fits into half a KB, one at least."""
    return max(1, min(512 // quads_bytes(view), conv_rows(view) * view.y.shape[2] // 2))


def quads_bytes(view: View) -> int:
    """Of two widened pixels."""
    return 16 * -(-span_weights(view).shape[1] // 4)


def conv_scratch(view: View, rows: int) -> int:
    """Widened pixels; the bytes left over of two; where there is padding, those of three spans."""
    size = span_cols(view) * view.x.shape[3] if any(view.attrs.padding) else 0
    return quads_bytes(view) * pairs(view) + 2 * rest_bytes(view) + 3 * size


def pack_conv(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    geometry, cols = conv_window(view), span_cols(view)
    kept = ("in_w", "in_ch", "out_w", "stride_h", "stride_w", "pad_left", "dilation_h", "dilation_w", "kernel_h")
    return {
        **{name: fields[name] for name in kept},
        "span_cols": cols,
        "span_taps": geometry.kernel[1] // cols,
        "zero": quant_of(view.x).zero_point,
        "padded": int(any(view.attrs.padding)),
        "rest_bytes": rest_bytes(view),
        "last_column": view.x.shape[2] - geometry.extent[1],
        "pairs": pairs(view),
        **pack_stream(view, span_weights(view)),
        "buffer": Scratch("int32_t"),
    }


def takes_groups(view: View) -> bool:
    """int8 in groups of four channels at least, and the proofs of mk_mat_s8.h hold."""
    return _is_grouped(view) and takes_exact(view, group_weights(view))


def takes_groups_fitted(view: View) -> bool:
    """The same with outputs of the fitted form."""
    return _is_grouped(view) and takes_fitted(view, group_weights(view))


def _is_grouped(view: View) -> bool:
    depth, channels = weights_of(view).shape[3], view.x.shape[3]
    return is_symmetric(view) and channels > depth >= 4 and view.y.shape[3] // (channels // depth) >= GROUP


def group_weights(view: View) -> np.ndarray:
    """[groups, channels of each, inputs]; a tap's inputs are quads, of which the last repeats some as zeros."""
    w, groups = weights_of(view), view.x.shape[3] // weights_of(view).shape[3]
    assert w.data is not None
    units, depth = w.shape[0], w.shape[3]
    whole = depth & ~3
    quads = [w.data[..., :whole]]
    if depth > whole:
        quads.append(np.where(np.arange(depth - 4, depth) < whole, 0, w.data[..., -4:]))
    return np.concatenate(quads, axis=3).reshape(groups, units // groups, -1)


def group_pairs(view: View) -> int:
    """Pairs of pixels that are widened together: what fits into half a KB, one at least."""
    return max(1, min(512 // (4 * group_weights(view).shape[2]), conv_rows(view) * view.y.shape[2] // 2))


def group_scratch(view: View, rows: int) -> int:
    """Widened pixels, one of padding, and where their taps lie."""
    return (4 * group_weights(view).shape[2] + 8 * conv_window(view).taps) * group_pairs(view) + 4 * group_blank_words(
        view
    )


def group_blank_words(view: View) -> int:
    return -(-view.x.shape[3] // 4) if any(view.attrs.padding) else 0


def pack_groups(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    geometry = ("in_w", "in_ch", "out_w", "stride_h", "stride_w", "pad_left", "dilation_h", "dilation_w")
    kept = (*geometry, "kernel_h", "kernel_w", "group_in", "group_out")
    weights = group_weights(view)
    packed = pack_stream(view, weights)
    stream = packed.pop("stream")
    assert isinstance(stream, np.ndarray)
    return {
        **{name: fields[name] for name in kept},
        "zero": quant_of(view.x).zero_point,
        "padded": int(any(view.attrs.padding)),
        "pairs": group_pairs(view),
        **packed,
        "blank_words": group_blank_words(view),
        "group_words": len(stream) // len(weights),
        "stream": stream,
        "buffer": Scratch("int32_t"),
    }


def takes_depthwise_fitted(view: View) -> bool:
    """The kernels of takes_depthwise whose outputs have fitted steps."""
    return _is_depthwise_3x3(view) and fit_depthwise(view) is not None


def takes_depthwise(view: View) -> bool:
    """int8 with kernels of 3x3, one output channel for each of at least four, and outputs of the exact form."""
    return _is_depthwise_3x3(view) and are_exact(view, packed_channels(view, depthwise_weights(view)))


def _is_depthwise_3x3(view: View) -> bool:
    if not is_symmetric(view) or view.x.shape[3] != view.y.shape[3] or view.y.shape[3] < GROUP:
        return False
    geometry = conv_window(view)
    return geometry.kernel == (3, 3) and geometry.dilation == (1, 1) and geometry.stride[1] in (1, 2)


def depthwise_weights(view: View) -> np.ndarray:
    """[channels, 9]"""
    w = weights_of(view)
    return np.asarray(w.data).reshape(-1, w.shape[3]).T


def depthwise_columns(view: View) -> int:
    """Input columns that a row of outputs reads, padding included."""
    return (view.y.shape[2] - 1) * view.attrs.stride[1] + 3


def depthwise_scratch(view: View, rows: int) -> int:
    return 32 * depthwise_columns(view) * max(rows // 2, 1)


def depthwise_rows(view: View) -> int:
    """Pairs of narrow rows share the reading of constants: as many as fit into 1 KB of scratch memory."""
    return 2 * max(1, 1024 // depthwise_scratch(view, 2)) if view.attrs.stride == (1, 1) else 1


def pack_depthwise(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    columns, first = depthwise_columns(view), view.attrs.padding[2]
    lo, hi = activation_range(view, view.attrs.activation)
    return {
        **{name: fields[name] for name in ("out_ch", "out_w", "stride_h", "stride_w")},
        "zero": quant_of(view.x).zero_point,
        "columns": columns,
        "first": min(first, columns),
        "end": min(first + view.x.shape[2], columns),
        "exact": int(fit_depthwise(view) is None),
        **exact_fields(view, packed_channels(view, depthwise_weights(view))),
        "act_min": lo,
        "act_max": hi,
        "stream": depthwise_stream(view),
        "buffer": Scratch("int32_t"),
    }


@dataclass(frozen=True)
class FittedDepthwise:
    """y = saturate(((acc + bias) * mult >> 32) + addend >> FRACTION) of each channel; bias in 24 bits, addend in 16."""

    weights: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    addend: np.ndarray


@once_per_view
def fit_depthwise(view: View) -> FittedDepthwise | None:
    """None where a channel has no such numbers."""
    channels = packed_channels(view, depthwise_weights(view))
    steps = find_steps(view, channels) if channels.exact else None
    if steps is None:
        return None
    found = steps.fit(np.array([1]), 1 << 14)
    if found is None:
        return None
    bias, mult, addend = (values.reshape(-1) for values in found)
    if (abs(bias) >= 1 << 23).any() or (abs(addend) >= 1 << 15).any():
        return None

    def outputs(acc: np.ndarray) -> np.ndarray:
        return (((acc + bias) * mult >> 32) + addend) >> FRACTION

    return FittedDepthwise(channels.weights, bias, mult, addend) if steps.proved(outputs) else None


def depthwise_stream(view: View) -> np.ndarray:
    """The words that mk_depthwise_conv2d_s8_dsp reads, by groups of four channels; the last may overlap the one before."""
    fitted = fit_depthwise(view)
    if fitted:
        w, mult, lasts = fitted.weights, fitted.mult, fitted.addend >> 8
        packed = (fitted.bias << 8) + (fitted.addend & 255)
    else:
        channels = packed_channels(view, depthwise_weights(view))
        w, mult, packed, lasts = channels.weights, 2 * channels.mult, channels.bias, channels.shift
    w = w.astype(np.int8)
    words = []
    for start in [*range(0, len(w) - GROUP, GROUP), len(w) - GROUP]:
        own = slice(start, start + GROUP)
        taps = np.ascontiguousarray(w[own][:, [0, 1, 3, 4, 2, 7, 5, 6]]).view("<i4")
        last = (w[own, 8].astype(np.int64) & 255) + (lasts[own] << 8)
        channel = np.concatenate([taps, mult[own, None], packed[own, None]], axis=1)
        words += [channel.reshape(-1), last.astype("<i2").view("<i4")]
    return (np.concatenate(words).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
