"""Fit the costs that instructions are predicted from: random networks, counted layer by layer on the virtual board.

python benchmarks/fit_costs.py [--board nucleo-l4r5zi ...] [--toolchain zig ...] [--optimize speed ...] [--networks 90]

Writes minikin/plan/costs.json; fits that are not asked for stay. Non-negative least squares of the relative errors. The
same seed makes the same networks. tests/models/test_predictions.py holds the errors on networks that were not fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from networks import Net, case_graph, int8, int8_case, quantized_cases, union  # noqa: E402

from minikin.boards import get_board  # noqa: E402
from minikin.errors import MinikinError  # noqa: E402
from minikin.files import write_atomically  # noqa: E402
from minikin.graph import Graph  # noqa: E402
from minikin.ops.activation import UnaryAttrs  # noqa: E402
from minikin.ops.elementwise import BinaryAttrs  # noqa: E402
from minikin.ops.opdef import OPS  # noqa: E402
from minikin.ops.padding import same_padding  # noqa: E402
from minikin.ops.pool import PoolAttrs  # noqa: E402
from minikin.ops.work import Work  # noqa: E402
from minikin.plan import Plan, Step  # noqa: E402
from minikin.plan.costs import fitted_core  # noqa: E402
from minikin.plan.prediction import NETWORK, network_work, step_work  # noqa: E402
from minikin.vboard.build import compile  # noqa: E402

BOARDS = ("nucleo-l4r5zi",)
TOOLCHAINS = ("zig", "gcc")
GOALS = ("speed", "balanced", "flash")
COSTS = ROOT / "minikin" / "plan" / "costs.json"
KERNELS = ((3, 3), (3, 3), (3, 3), (5, 5), (3, 1), (1, 3), (7, 3), (2, 2))

ROUNDS = 5
SMALL = 2000
"""Instructions of a layer whose errors count half as much as those of a large one."""

Point = tuple[str, Work, int]
"""What ran, its counts, its instructions."""


def random_network(seed: int) -> Graph:
    """Convolutions, depthwise ones, pools, sums and dense layers of random shapes: two of three quantized, one in floats."""
    rng = np.random.default_rng(seed)

    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    if rng.random() < 0.12:
        net = Net(f"random{seed}", (1, int(rng.integers(4, 400))), seed)
    else:
        side = pick(9, 18, 40)
        net = Net(
            f"random{seed}", (1, *map(int, rng.integers(3, side, 2)), pick(1, 1, 2, 3, 3, 3, 3, 3, 4, 8, 16)), seed
        )
        net.conv(
            pick(4, 8, 8, 10, 16, 16, 32, 64),
            pick((3, 3), (3, 3), (3, 3), (3, 3), (1, 1), (5, 5), (10, 4), (3, 1)),
            pick(1, 2),
        )
        for _ in range(rng.integers(2, 8)):
            add_layer(net, rng, pick)
        if rng.random() < 0.6:
            net.global_pool()
        else:
            net.dense(pick(2, 5, 8, 12))
    for _ in range(rng.integers(1, 3)):
        net.dense(int(rng.integers(2, 130)), pick("relu", "none"))
    if rng.random() < 0.5:
        net.softmax()
    return net.graph() if seed % 3 == 0 else int8(net.graph(), samples=2)


def add_layer(net: Net, rng: np.random.Generator, pick: Any) -> None:
    height, width, channels = net.shapes[net.x][1:]
    kind, stride, activation = rng.random(), pick(1, 1, 2), pick("relu", "relu", "relu", "relu6", "none")
    if kind < 0.25:
        net.conv(pick(4, 7, 8, 16, 16, 24, 32, 64), pick(*KERNELS), stride, activation)
    elif kind < 0.5:
        net.conv(pick(4, 8, 10, 16, 24, 32, 48, 64, 96, 128), (1, 1), pick(1, 1, 1, 1, 2), activation)
    elif kind < 0.85:
        net.depthwise(pick((3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (5, 5), (5, 1)), stride, activation)
    elif kind < 0.92:
        before = net.x
        net.conv(channels, pick((1, 1), (3, 3)), 1, "none")
        net.add("add", BinaryAttrs(pick("relu", "none")), before)
    elif kind < 0.97 and min(height, width) > 3:
        padding = same_padding((height, width), (2, 2), (2, 2))
        net.add(pick("avg_pool2d", "max_pool2d"), PoolAttrs(kernel=(2, 2), stride=(2, 2), padding=padding))
    else:
        net.add(pick("logistic", "tanh"), UnaryAttrs())


def points_of(graph: Graph, board: str, toolchain: str, optimize: str) -> list[Point]:
    """Every layer of a network on the virtual board, and what runs between the layers."""
    try:
        build = compile(graph, board, toolchain=toolchain, optimize=optimize)
        run = build.run()
    except MinikinError as error:
        print(f"{graph.name} left out: {error}", file=sys.stderr)
        return []
    plan, counts = build.plan, {layer.name: layer.instructions for layer in run.layers}
    points = [(step.layer.kernel.key, fitted_work(plan, step), counts[step.name]) for step in plan.steps]
    return [*points, (NETWORK, network_work(plan), run.instructions - sum(counts.values()))]


def fitted_work(plan: Plan, step: Step) -> Work:
    """A layer's counts without those that its kernel has none of: fewer can be told apart by fewer layers."""
    work, portable = step_work(plan, step), step.layer.kernel.isa == "c"
    return {name: value for name, value in work.items() if portable or not name.startswith("plain")}


def case_networks() -> list[Graph]:
    """The ops' cases, all of an op side by side, so that no kernel is left out."""
    floats, integers = defaultdict(list), defaultdict(list)
    for op in OPS.values():
        for case in op.cases if op.kernels else ():
            if "float32" in case.dtypes:
                floats[op.name].append(case_graph(op, case))
    for op, case, dtype in quantized_cases():
        if op.kernels:
            integers[op.name].append(int8_case(op, case, dtype))
    return [
        union(f"{op}_{kind}", own)
        for kind, cases in (("float", floats), ("int", integers))
        for op, own in cases.items()
    ]


def fit(points: list[Point]) -> dict[str, dict[str, float]]:
    """kernel -> count -> cost."""
    rows: dict[str, list[tuple[Work, int]]] = defaultdict(list)
    for key, work, count in points:
        rows[key].append((work, count))
    fitted = {}
    for key, own in sorted(rows.items()):
        names = sorted({name for work, _ in own for name, value in work.items() if value})
        a = np.array([[work.get(name, 0.0) for name in names] for work, _ in own])
        b = np.array([count for _, count in own], float)
        costs = robust_fit(a, b, 1 / (b + SMALL))
        fitted[key] = {name: round(float(cost), 4) for name, cost in zip(names, costs, strict=True) if cost > 5e-5}
        errors = np.abs(a @ costs - b) / (b + SMALL)
        print(f"  {key:60} {len(own):4} layers, error {np.median(errors):.2%}, at most {errors.max():.1%}")
    return fitted


def robust_fit(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The x >= 0 with the least sum of |a @ x - b| * weight, by least squares that are weighted again and again.

    A compiler makes another loop of some shapes: such layers must not bend the costs of all others.
    """
    trust = np.ones_like(b)
    for _ in range(ROUNDS):
        own = weight * np.sqrt(trust)
        scale = np.maximum((a * own[:, None]).max(axis=0), 1e-12)
        x = nnls(a * own[:, None] / scale, b * own, maxiter=20_000)[0] / scale
        trust = 1 / np.maximum(np.abs(a @ x - b) * weight, 0.01)
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append")
    parser.add_argument("--toolchain", action="append")
    parser.add_argument("--optimize", action="append")
    parser.add_argument("--networks", type=int, default=90)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    table = json.loads(COSTS.read_text()) if COSTS.is_file() else {}
    graphs = [random_network(seed) for seed in range(given.networks)] + case_networks()
    for board, toolchain, goal in product(
        given.board or BOARDS, given.toolchain or TOOLCHAINS, given.optimize or GOALS
    ):
        core = get_board(board).core
        key = f"{fitted_core(core)} {toolchain} {goal}"
        print(f"{key}, {len(graphs)} networks")
        with ThreadPoolExecutor(given.workers) as pool:
            jobs = [pool.submit(points_of, graph, board, toolchain, goal) for graph in graphs]
            points = []
            for done, job in enumerate(jobs, 1):
                points += job.result()
                print(f"\r{done} of {len(jobs)}", end="", file=sys.stderr, flush=True)
        from minikin.vboard.toolchain import find_toolchain

        table[key] = {"compiler": find_toolchain(toolchain, core.gcc).version, "kernels": fit(points)}
        write_atomically(COSTS, json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
