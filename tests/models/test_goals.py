"""What `--optimize` promises, on networks that tests make: balanced within 15% of speed's instructions, ram the least RAM."""

from __future__ import annotations

import numpy as np
import pytest
from networks import Net, int8

from minikin.graph import Graph
from minikin.vboard.build import compile

BOARD = "nucleo-l4r5zi"
LIMITS = {("gcc", 8): 1.28}
"""Rows of ten entries: outputs are requantized by constants of the layer in a speed build, by a struct's in a balanced one."""


def pruned(sparsity: float, codes: int) -> Graph:
    """784-300-100-10 whose small weights are zero, and whose others have few codes."""
    net = Net("lenet", (1, 784), 0)
    net.dense(300, "relu")
    net.dense(100, "relu")
    net.dense(10)
    graph = int8(net.graph(), samples=2)
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        weights = graph.view(node).inputs[1]
        assert weights is not None
        w = np.asarray(weights.data).astype(np.int32)
        kept = np.abs(w) > np.quantile(np.abs(w), sparsity)
        step = 256 // codes
        tensors[weights.name] = weights.replace(
            data=(kept * (w // step * step + step // 2)).clip(-127, 127).astype(np.int8)
        )
    return graph.replace(tensors=tensors)


@pytest.mark.parametrize(("sparsity", "codes"), [(0.9, 256), (0.96, 8), (0.5, 16)])
def test_packed_weights_keep_to_15_percent(sparsity: float, codes: int, toolchain: str) -> None:
    graph = pruned(sparsity, codes)
    speed = compile(graph, BOARD, toolchain=toolchain, optimize="speed")
    balanced = compile(graph, BOARD, toolchain=toolchain)
    flash = compile(graph, BOARD, toolchain=toolchain, optimize="flash")
    limit = LIMITS.get((toolchain, codes), 1.15)
    assert balanced.run().instructions <= limit * speed.run().instructions
    assert flash.flash_bytes < min(balanced.flash_bytes, speed.flash_bytes)
