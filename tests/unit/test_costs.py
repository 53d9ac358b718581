"""Counts of work, and what is chosen by predicted instructions."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Net, case_graph, int8

from minikin.boards import get_board
from minikin.graph import Graph
from minikin.ops.opdef import OPS, get_op
from minikin.plan.costs import Costs, costs_of, layer_work
from minikin.plan.kernels import Aim, choose_kernels
from minikin.plan.plan import make_plan
from minikin.plan.prediction import NETWORK, predict, predict_steps

CASES = [(op, case) for op in OPS.values() if op.kernels for case in op.cases if "float32" in case.dtypes]


def pointwise() -> Graph:
    net = Net("pointwise", (1, 8, 5, 16), 0)
    net.conv(12, (1, 1))
    return int8(net.graph())


@pytest.mark.parametrize(("op", "case"), CASES, ids=lambda p: p.name)
def test_every_op_has_work(op, case) -> None:
    graph = case_graph(op, case)
    view = graph.view(graph.nodes[0])
    height, kernel = view.y.frame.rows, op.kernel(view)
    for rows in (1, 2, height):
        work = layer_work(kernel, view, rows, height)
        assert all(count >= 0 for count in work.values())
        assert work["call"] > 0


def test_counts_of_a_convolution() -> None:
    graph = pointwise()
    view = graph.view(graph.nodes[0])
    kernel = get_op(view.node.op).kernel(view, "dsp")
    work = layer_work(kernel, view, 1, 8)
    assert (work["call"], work["pixel"], work["pair_block"], work["single_block"]) == (8, 40, 16 * 3, 8 * 3)
    assert work["pair_block_mac"] == 16 * 3 * 4
    both = layer_work(kernel, view, 2, 8)
    assert (both["call"], both["pair_block"], both["single_block"]) == (4, 20 * 3, 0)


def test_counts_of_a_kernel_of_its_own() -> None:
    """5x5 with 'same' padding on 8x6: per group two pairs of rows and the last one by itself, 13 pairs of taps a pixel."""
    net = Net("depthwise", (1, 8, 6, 12), 0)
    net.depthwise((5, 5))
    graph = int8(net.graph())
    view = graph.view(graph.nodes[0])
    kernel = get_op("depthwise_conv2d").kernel(view, "dsp")
    work = layer_work(kernel, view, 1, 8)
    assert kernel.name == "mk_depthwise_conv2d_s8_taps_dsp"
    assert (work["call"], work["table_pair"], work["pixel_pair"]) == (8, 8 * 3 * 13, 48 * 3 * 13)
    assert (work["column_group"], work["padding"]) == (8 * 3 * (6 + 6 + 8), 8 * (4 + 4 + 0))


def test_forms_of_weights_are_chosen_by_fitted_costs() -> None:
    net = Net("clustered", (1, 64), 0)
    net.dense(32)
    graph = int8(net.graph())
    weights = graph.view(graph.nodes[0]).inputs[1]
    assert weights is not None
    assert weights.data is not None
    codes = np.where(weights.data > 40, 64, np.where(weights.data < -40, -64, 0)).astype(np.int8)
    graph = graph.replace(tensors={**graph.tensors, weights.name: weights.replace(data=codes)})
    view = graph.view(graph.nodes[0])
    kernels = {kernel.storage: kernel for kernel in get_op(view.node.op).choices(view, "dsp", fast=True)}
    for wanted in kernels:
        costs = Costs("", {k.key: {"batch": 1.0 if s == wanted else 1e6} for s, k in kernels.items()})
        chosen = choose_kernels([view], "dsp", Aim(fast=True, slack=1.0, costs=costs))[view.node.name]
        assert chosen.storage == wanted


def test_a_plan_is_predicted_by_its_costs() -> None:
    graph = pointwise()
    plan = make_plan(graph, "dsp", stream=False)
    assert predict(plan) is None
    key = plan.steps[0].layer.kernel.key
    costs = Costs("", {key: {"pixel": 2.0, "constant": 5.0}, NETWORK: {"layer": 3.0}})
    known = make_plan(graph, "dsp", stream=False, aim=Aim(costs=costs))
    assert predict_steps(known) == {known.steps[0].name: 85.0}
    assert predict(known) == 88.0


def test_cores_without_costs() -> None:
    assert costs_of(get_board("nucleo-l4r5zi").core, "no compiler", "speed") is None
