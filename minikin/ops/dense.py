"""dense: y[n] = act(sum_k x[k] * w[n, k] + b[n]), TFLite's FULLY_CONNECTED."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minikin.graph import View
from minikin.ops.channels import Bounds, Channels, Kept, Mixing, channel_count, free
from minikin.ops.conv_mve import DENSE_MVE
from minikin.ops.conv_x4 import DENSE_X4
from minikin.ops.hybrid import HYBRID_DTYPES, hybrid_fields, is_hybrid, quantized_frames, scaled_sums
from minikin.ops.opdef import Case, Field, Kernel, OpDef, Scratch, any_batch, clamp_float, is_dtype, register, require
from minikin.ops.packing import is_symmetric, mat_kernels, pack_stream, takes_exact, takes_fitted
from minikin.ops.packing_f32 import float32_kernels, pack_dense_f32
from minikin.ops.requant import (
    centred_weights,
    exact_matmul,
    float_clamp,
    output_multipliers,
    pack_bias,
    quant_of,
    requantize_fields,
    requantized,
    requantized_bounds,
    sum_bounds,
    weights_of,
)
from minikin.ops.stored import dense_kernels
from minikin.ops.work import Work, dense_work

CHUNK_ELEMS = 1 << 20  # products held at a time


@dataclass(frozen=True)
class DenseAttrs:
    """`keep_dims` keeps the leading dimensions of the input; otherwise they are flattened into one.

    `asymmetric`: with int8 weights, rows of float32 inputs are quantized with a zero point (see hybrid.py).
    """

    activation: str = "none"
    keep_dims: bool = False
    asymmetric: bool = False


def infer(view: View) -> tuple[tuple[int, ...], ...]:
    x, w = view.x, view.inputs[1]
    require(w is not None and len(w.shape) == 2, view, f"weights are {w and w.shape}, want [units, features]")
    assert w is not None
    units, features = w.shape
    require(features > 0 and x.size % features == 0, view, f"input {x.shape} does not split into rows of {features}")
    bias = view.input(2)
    require(bias is None or bias.shape == (units,), view, f"bias is {bias and bias.shape}, want ({units},)")
    if view.attrs.keep_dims:
        require(x.shape[-1:] == (features,), view, f"input {x.shape} does not end in {features} features")
        return ((*x.shape[:-1], units),)
    return ((x.size // features, units),)


def eval_float(view: View, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    rows = x.reshape(-1, w.shape[1])
    if is_hybrid(view):
        codes, scales = quantized_frames(rows, view.attrs.asymmetric)
        y = scaled_sums(view, exact_matmul(codes, w.T), scales)
    else:
        y = matmul_in_order(rows, w)
    if b is not None:
        y = y + b
    return (clamp_float(y, view.attrs.activation).reshape(view.y.shape),)


def matmul_in_order(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x @ w.T in float32, summed feature by feature: BLAS sums in another order, off by 2e-5 where terms cancel."""
    step = max(1, CHUNK_ELEMS // w.size)
    chunks = [np.cumsum(x[i : i + step, None] * w, axis=-1, dtype=np.float32)[..., -1] for i in range(0, len(x), step)]
    return np.concatenate(chunks)


def eval_int(view: View, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    rows = x.reshape(-1, w.shape[1]).astype(np.int16) - quant_of(view.x).zero_point
    acc = exact_matmul(rows, w.astype(np.int16).T - quant_of(weights_of(view)).zero_point)
    if b is not None:
        acc += b
    y = requantized(view, acc, output_multipliers(view), once=view.rounding != "micro")
    return (y.reshape(view.y.shape),)


def to_torch(view: View) -> Any:
    import torch

    from minikin.ops.torch_activation import torch_activation

    def dense(x: Any, w: Any, b: Any = None) -> Any:
        y = torch.nn.functional.linear(x.reshape(-1, w.shape[1]), w, b)
        return torch_activation(y, view.attrs.activation).reshape(any_batch(view.y.shape))

    return dense


def emit(view: View) -> dict[str, Field]:
    w = weights_of(view)
    units, features = w.shape
    bias = view.input(2)
    fields: dict[str, Field] = {"batch": view.x.size // features, "in_ch": features, "out_ch": units}
    if is_hybrid(view):
        fields |= hybrid_fields(view, view.attrs.asymmetric)
    elif view.x.dtype == "float32":
        fields |= float_clamp(view.attrs.activation)
    else:
        fields |= requantize_fields(view, output_multipliers(view)) | {"round_once": int(view.rounding != "micro")}
    return fields | {"weight": w.data, "bias": bias.data if bias is not None else None}


def channels(view: View) -> Channels | None:
    """Features of an input [..., channels] that dense flattens are its channels, over and over."""
    units, features = weights_of(view).shape
    count = channel_count(view.x.shape)
    output = free(units)
    if features % count != 0:
        return Channels((None,), output)

    def unfold(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, features // count, x.shape[-1])

    return Channels((free(count),), output, Mixing(centred_weights(view).reshape(units, -1, count), unfold))


def cut(view: View, kept: Kept) -> tuple[DenseAttrs, dict[int, np.ndarray]]:
    w = weights_of(view)
    assert w.data is not None
    units, features = w.shape
    count = channel_count(view.x.shape)
    if features % count != 0:
        return view.attrs, {1: w.data[kept.output]}
    by_channel = w.data.reshape(units, -1, count)[kept.output][..., kept.inputs[0]]
    return view.attrs, {1: by_channel.reshape(len(kept.output), -1)}


def interval(view: View, x: Bounds, w: Bounds, b: Bounds | None = None) -> Bounds:
    def products(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return exact_matmul(x.reshape(-1, w.shape[1]), w.T)

    lo, hi = sum_bounds(x, quant_of(view.x).zero_point, centred_weights(view), products)
    bias = 0 if b is None else b[0]
    acc = lo + bias, hi + bias
    y = requantized_bounds(view, acc, output_multipliers(view), once=view.rounding != "micro")
    return y[0].reshape(view.y.shape), y[1].reshape(view.y.shape)


def macs(view: View) -> int:
    return view.x.size * weights_of(view).shape[0]


def takes_dsp(view: View) -> bool:
    """Symmetric int8 with TFLite Micro's rounding, and the proofs of mk_mat_s8.h hold."""
    return _is_plain(view) and takes_exact(view, np.asarray(weights_of(view).data))


def takes_dsp_fitted(view: View) -> bool:
    """The same with outputs of the fitted form."""
    return _is_plain(view) and takes_fitted(view, np.asarray(weights_of(view).data))


def _is_plain(view: View) -> bool:
    return view.rounding == "micro" and is_symmetric(view)


def dense_dsp_kernels() -> tuple[Kernel, ...]:
    """Rows of inputs are widened where there is memory for it, else taken as they are."""
    takes = {"takes": takes_dsp, "takes_fitted": takes_dsp_fitted}
    wide = {**takes, "pack": pack_wide, "scratch": wide_bytes, "work": wide_work}
    narrow = {**takes, "pack": pack_narrow, "scratch": filled_bytes, "work": narrow_work}
    kernels = partial(mat_kernels, "mk_dense_s8_dsp", "mk_mat1_exact.h")
    return (
        *kernels(fasts=(True,), **wide),
        *kernels(fasts=(False,), **narrow),
        *kernels(fasts=(False,), roomy=True, **wide),
    )


def wide_bytes(view: View, rows: int) -> int:
    """A row of inputs in halfwords, an even number of quads."""
    return 16 * -(-weights_of(view).shape[1] // 8)


def filled_bytes(view: View, rows: int) -> int:
    """A row of inputs filled up to whole quads, where it is none already."""
    features = weights_of(view).shape[1]
    return features + -features % 4 if features % 4 else 0


def pack_wide(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return _pack_dsp(view, fields) | {"narrow": 0, "words": Scratch("int32_t", wide_bytes(view, 1) - 8 * _quads(view))}


def pack_narrow(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return _pack_dsp(view, fields) | {"narrow": 1, "filled": Scratch() if filled_bytes(view, 1) else None}


def _quads(view: View) -> int:
    return -(-weights_of(view).shape[1] // 4)


def _pack_dsp(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    own: dict[str, Field] = {"batch": fields["batch"], "in_ch": fields["in_ch"], "words": None, "filled": None}
    return own | pack_stream(view, np.asarray(weights_of(view).data))


def wide_work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
    """What is left over of a row is widened apart, and nothing filled up."""
    return counts | {"fill": 0.0, "tail": counts["batch"] * (weights_of(view).shape[1] % 4)}


def narrow_work(view: View, rows_a_call: int, made: int, counts: Work) -> Work:
    """Nothing is gathered; each group widens its inputs."""
    return counts | {"gather": 0.0, "narrow_mac": counts["block_mac"] + counts["rest_block_mac"]}


def dense_case(name: str, attrs: DenseAttrs, *shapes: Any) -> Case:
    return Case(name, attrs, *shapes, dtypes=HYBRID_DTYPES)


register(
    OpDef(
        name="dense",
        attrs=DenseAttrs,
        infer=infer,
        eval_float=eval_float,
        eval_int=eval_int,
        to_torch=to_torch,
        arity=1,
        emit=emit,
        macs=macs,
        work=dense_work,
        weights={1: 0},
        bias=2,
        channels=channels,
        cut=cut,
        interval=interval,
        kernels=(
            DENSE_MVE,
            *DENSE_X4,
            *dense_dsp_kernels(),
            *dense_kernels(),
            Kernel(name="mk_dense_s8", when=is_dtype("int8"), pack=pack_bias),
            Kernel(name="mk_dense_f32_w8", when=is_hybrid, scratch=lambda view, rows: weights_of(view).shape[1]),
            *float32_kernels("mk_dense_f32", pack_dense_f32),
        ),
        cases=(
            dense_case("10x3", DenseAttrs(), ((1, 10),), {1: (3, 10), 2: (3,)}),
            dense_case("no_bias", DenseAttrs(), ((1, 33),), {1: (7, 33)}),
            dense_case("relu", DenseAttrs("relu"), ((1, 64),), {1: (16, 64), 2: (16,)}),
            dense_case("relu6_batch", DenseAttrs("relu6"), ((3, 20),), {1: (5, 20), 2: (5,)}, (-4.0, 4.0)),
            dense_case("flatten", DenseAttrs(), ((1, 4, 3, 2),), {1: (6, 24), 2: (6,)}),
            dense_case("keep_dims", DenseAttrs(keep_dims=True), ((1, 2, 8),), {1: (4, 8), 2: (4,)}),
            dense_case(
                "asymmetric", DenseAttrs("relu", asymmetric=True), ((4, 12),), {1: (6, 12), 2: (6,)}, (-1.0, 3.0)
            ),
            dense_case("19_units", DenseAttrs("relu_n1_to_1"), ((2, 21),), {1: (19, 21), 2: (19,)}),
            dense_case("one", DenseAttrs(), ((1, 1),), {1: (1, 1), 2: (1,)}),
        ),
    )
)
