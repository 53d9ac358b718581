"""What `--optimize` asks of a plan."""

from __future__ import annotations

import math

from minikin.boards import Core
from minikin.graph import Graph
from minikin.plan.blocking import instructions
from minikin.plan.costs import costs_of
from minikin.plan.joining import join_layers
from minikin.plan.kernels import Aim
from minikin.plan.layers import make_layers

BALANCED = 1.135
"""Instructions of a balanced build by those of one for speed: 15% more, less what predictions may be wrong by."""


def make_aim(graph: Graph, core: Core, *, toolchain: str, optimize: str, storage: str | None = None) -> Aim:
    """speed: the fewest instructions. ram: the least RAM, and of that the fewest instructions. flash: the fewest bytes of
    weights, whatever they take. balanced: the least RAM, then fewer bytes of weights where they take few instructions more,
    within BALANCED times the predicted instructions of a build for speed (a streamed input keeps to one row a call).
    `storage` is a form of weights for all layers. Raises UnsupportedError.
    """
    costs = costs_of(core, toolchain, optimize)
    if optimize == "speed":
        return Aim(fast=True, slack=1.0, storage=storage, costs=costs)
    if optimize == "ram":
        return Aim(least_ram=storage is None, storage=storage, costs=costs)
    if optimize == "flash":
        return Aim(slack=math.inf, storage=storage, costs=costs)
    fastest = make_aim(graph, core, toolchain=toolchain, optimize="speed")
    if storage is not None or costs is None or fastest.costs is None:
        return Aim(storage=storage, costs=costs)
    layers = make_layers(join_layers(graph, core.isa, fastest), core.isa, fastest, whole=True)[0]
    if any(layer.kernel.key not in fastest.costs.kernels for layer in layers):
        return Aim(costs=costs)
    return Aim(slack=BALANCED, reference=instructions(layers, fastest), costs=costs)
