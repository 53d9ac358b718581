"""Fitted outputs against TFLite's rounding, for every sum in reach and not only where `Steps.proved` looks."""

from __future__ import annotations

import numpy as np
import pytest

from minikin.fixedpoint import requantize
from minikin.graph import Node, Quant, Tensor, View
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs, eval_add, eval_sub, fit_sum
from minikin.ops.fitting import FRACTION, find_steps, reach
from minikin.ops.packing import fit_groups, grouped_channels


def dense_view(seed: int, units: int, activation: str = "relu") -> View:
    rng = np.random.default_rng(seed)
    w = rng.integers(-127, 128, (units, 9)).astype(np.int8)
    scales = tuple(float(s) for s in rng.uniform(0.001, 0.003, units))
    b = Tensor("b", (units,), "int32", None, rng.integers(-9000, 9000, units).astype(np.int32))
    weight = Tensor("w", w.shape, "int8", Quant(scales, (0,) * units, 0), w)
    x, y = Tensor("x", (1, 9), "int8", Quant((0.02,), (-5,))), Tensor("y", (1, units), "int8", Quant((0.01,), (-128,)))
    return View(Node("d", "dense", DenseAttrs(activation), ("x", "w", "b"), ("y",)), (x, weight, b), (y,))


@pytest.mark.parametrize("units", [3, 4, 7])
def test_every_sum_in_reach(units: int) -> None:
    view = dense_view(units, units)
    w = view.inputs[1]
    assert w is not None
    channels = grouped_channels(view, np.asarray(w.data))
    fitted = fit_groups(view, channels)
    assert fitted is not None
    lo, hi = reach(channels.weights, np.zeros_like(channels.bias))
    for i in range(len(channels.bias)):
        group, own, times = i // 4, i % 4, 256 if i % 2 else 1
        acc = np.arange(lo[i], hi[i] + 1)
        expected = requantize(acc + channels.bias[i], channels.mult[i], -channels.shift[i] - 1) - 128
        high = ((times * acc + fitted.bias[group, own]) * fitted.mult[group, own] >> 32) + fitted.addend[group]
        y = high >> (FRACTION + 8 * (i % 2))
        assert np.array_equal(np.clip(y, -128, 127), np.clip(expected, -128, 127))


def test_a_wrong_number_is_not_proved() -> None:
    view = dense_view(1, 4)
    w = view.inputs[1]
    assert w is not None
    steps = find_steps(view, grouped_channels(view, np.asarray(w.data)))
    assert steps is not None
    found = steps.fit(np.array([1]), 1 << 14)
    assert found is not None
    bias, mult, addend = (values.reshape(-1) for values in found)
    assert steps.proved(lambda acc: (((acc + bias) * mult >> 32) + addend) >> FRACTION)
    assert not steps.proved(lambda acc: (((acc + bias + 1) * mult >> 32) + addend) >> FRACTION)


def test_negative_halves_have_no_fitted_form() -> None:
    """Halves go away from zero: below the offset all rises come later by more than a sum, and no line has them all."""
    view = dense_view(2, 4, "none")
    w = view.inputs[1]
    assert w is not None
    signed = View(view.node, view.inputs, (Tensor("y", (1, 4), "int8", Quant((0.02,), (0,))),))
    assert find_steps(signed, grouped_channels(signed, np.asarray(w.data))) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_all_sums_of_two_codes(sign: int) -> None:
    tensors = [
        Tensor(n, (2,), "int8", Quant((s,), (z,))) for n, s, z in (("a", 0.03, 3), ("b", 0.02, -7), ("y", 0.04, -128))
    ]
    view = View(Node("s", "add", BinaryAttrs(), ("a", "b"), ("y",)), (tensors[0], tensors[1]), (tensors[2],))
    fitted = fit_sum(view, sign)
    assert fitted is not None
    a, b = np.arange(-128, 128)[:, None], np.arange(-128, 128)[None]
    p, q, start = (int(fitted[name]) for name in ("a_mult", "b_mult", "start"))  # type: ignore[arg-type]
    y = ((p * a >> 8) + (q * b >> 8) + start) >> 21
    assert np.array_equal(np.clip(y, -128, 127), (eval_add if sign > 0 else eval_sub)(view, a, b)[0])
