"""Fit the costs that instructions are predicted from: random networks, counted layer by layer on the virtual board.

python benchmarks/fit_costs.py [--board nucleo-l4r5zi ...] [--toolchain zig ...] [--optimize speed ...] [--networks 40]

Without options all kinds of cores, compilers and goals. Writes minikin/plan/costs.json after each; fits that are not asked for
stay. What was counted is kept in build/fit_counts.jsonl by its sources and compiler: a run that was stopped goes on, and after
a change of a kernel only networks with that kernel are counted again. Non-negative least squares of the relative errors. The
same seed makes the same networks. tests/models/test_predictions.py holds the errors on networks that were not fitted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from networks import Net, case_graph, int8, int8_case, quantized_cases, union  # noqa: E402

from minikin.boards import Board, get_board  # noqa: E402
from minikin.codegen.bundle import bundle_files  # noqa: E402
from minikin.codegen.emit import emit_model  # noqa: E402
from minikin.codegen.text import with_c_names  # noqa: E402
from minikin.errors import MinikinError  # noqa: E402
from minikin.files import write_atomically  # noqa: E402
from minikin.graph import Graph, View  # noqa: E402
from minikin.ops.activation import UnaryAttrs  # noqa: E402
from minikin.ops.elementwise import BinaryAttrs  # noqa: E402
from minikin.ops.opdef import ISAS, OPS, Kernel, get_op  # noqa: E402
from minikin.ops.padding import same_padding  # noqa: E402
from minikin.ops.pool import PoolAttrs  # noqa: E402
from minikin.ops.stored import GROUPED, STORAGES  # noqa: E402
from minikin.ops.work import Work  # noqa: E402
from minikin.passes.shrink import shrink  # noqa: E402
from minikin.plan import Plan, Step, make_plan  # noqa: E402
from minikin.plan.costs import BUILDS, fitted_core  # noqa: E402
from minikin.plan.joining import joinable, joined  # noqa: E402
from minikin.plan.kernels import Aim  # noqa: E402
from minikin.plan.prediction import NETWORK, network_work, step_work  # noqa: E402
from minikin.vboard.build import build_plan  # noqa: E402
from minikin.vboard.toolchain import Toolchain, find_toolchain  # noqa: E402

BOARDS = ("nucleo-l4r5zi", "pico", "esp32-c3", "corstone-300")
"""One of each instruction set."""
TOOLCHAINS = ("zig", "gcc")
GOALS = tuple(dict.fromkeys(BUILDS.values()))
COSTS = ROOT / "minikin" / "plan" / "costs.json"
COUNTS = ROOT / "build" / "fit_counts.jsonl"
KERNELS = ((3, 3), (3, 3), (3, 3), (5, 5), (3, 1), (1, 3), (7, 3), (2, 2))

ROUNDS = 5
LEAST_SHARE = 1e-3
"""Of some layer's instructions: costs that are less of all of them are left out."""
SEPARABLE = 8
"""Networks of depthwise and pointwise layers."""
STORED = 8
"""Networks of each form of weights."""
JOINED = 48
"""Networks of layers that one kernel joins."""
BOTH = {"call", "constant"}
"""Counts of a kernel of dense weights that one of packed weights takes more for."""
UNSURE = 0.1
"""Error of layers held out from which on a kernel of packed weights goes without costs: its own estimate is no worse."""
SMALL = 2000
"""Instructions of a layer whose errors count half as much as those of a large one."""

Point = tuple[str, str, Work, int]
"""What ran, the kernel of dense weights that it calls (or ""), its counts, its instructions."""


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


def separable_network(seed: int) -> Graph:
    """Depthwise 3x3 and pointwise convolutions, as most networks have them; in half of them all blocks are alike."""
    rng = np.random.default_rng(seed)
    channels, even = 8 * int(rng.integers(1, 9)), seed % 2 == 0
    net = Net(f"separable{seed}", (1, *map(int, rng.integers(12, 40, 2)), int(rng.choice([1, 3]))), seed)
    net.conv(channels, ((3, 3), (10, 4))[seed // 2 % 2], 2)
    for _ in range(rng.integers(3, 6)):
        stride = 1 if even else int(rng.integers(1, 3))
        net.depthwise((3, 3), stride)
        channels = channels if even else min(stride * channels, 96)
        net.conv(channels, (1, 1))
    net.global_pool()
    net.dense(int(rng.integers(2, 13)))
    net.softmax()
    return int8(net.graph(), samples=2)


def few(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A codebook of 2 to 32."""
    return rng.choice(rng.integers(-127, 128, 1 << rng.integers(1, 6)), shape)


def most(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(0, 30, shape).clip(-127, 127)


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (few if rng.random() < 0.5 else most)(rng, shape) * (rng.random(shape) < rng.choice([0.06, 0.15, 0.35]))


def blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One or two of each four are not zero."""
    kept = np.argsort(rng.random((shape[0], shape[1] // 4, 4)), axis=2) < rng.integers(1, 3)
    return most(rng, shape) * kept.reshape(shape)


PATTERNS = {"codebook": (few,), "bitmask": (zeros,), "sparse": (zeros,), "nm": (blocks,), "coded": (zeros, few, most)}
"""Of each form of weights, codes that it can store."""


def stored_network(form: str, seed: int) -> Graph:
    """Two convolutions and three dense layers, or dense ones alone, whose weights the form can store."""
    rng = np.random.default_rng(seed)
    if seed % 4 == 3:
        net = Net(f"{form}{seed}", (1, 4 * int(rng.integers(20, 150))), seed)
        net.dense(4 * int(rng.integers(3, 50)))
    else:
        net = Net(f"{form}{seed}", (1, *map(int, rng.integers(4, 14, 2)), 4), seed)
        net.conv(4 * int(rng.integers(3, 7)), ((3, 3), (5, 3), (1, 1))[rng.integers(3)], int(rng.integers(1, 3)))
        net.conv(4 * int(rng.integers(3, 8)), ((3, 3), (1, 1))[rng.integers(2)])
        net.conv(20, (1, 1))
        net.global_pool()
    net.dense(4 * int(rng.integers(3, 20)))
    net.dense(int(rng.integers(2, 13)))
    return with_weights(net.graph(), form, rng)


def grouped_network(form: str, seed: int) -> Graph:
    """Depthwise convolutions and one with groups, whose weights the form can store."""
    rng = np.random.default_rng(seed)
    channels = 8 * int(rng.integers(1, 5))
    net = Net(f"grouped_{form}{seed}", (1, *map(int, rng.integers(5, 14, 2)), channels), seed)
    net.depthwise((3, 3))
    net.conv(channels, ((3, 3), (1, 1), (3, 1))[rng.integers(3)], groups=(2, 4, 8)[rng.integers(3)])
    net.depthwise(((3, 3), (5, 5), (3, 3), (5, 1))[seed % 4], int(rng.integers(1, 3)))
    net.depthwise((3, 3), 1, "none")
    net.dense(int(rng.integers(2, 13)))
    return with_weights(net.graph(), form, rng)


def with_weights(graph: Graph, form: str, rng: np.random.Generator) -> Graph:
    """Weights that the form can store; those of dense ones stay as they are."""
    is_float = form == "float16"
    graph = graph if is_float else int8(graph, samples=2)
    tensors = dict(graph.tensors)
    for node in graph.nodes if form != "dense" else ():
        weights = graph.view(node).input(1)
        if weights is not None and is_float:
            tensors[weights.name] = weights.replace(data=np.asarray(weights.data).astype(form).astype(np.float32))
        elif weights is not None:
            pattern = PATTERNS[form][rng.integers(len(PATTERNS[form]))]
            codes = pattern(rng, (weights.shape[0], weights.size // weights.shape[0]))
            tensors[weights.name] = weights.replace(data=codes.reshape(weights.shape).astype(np.int8))
    return graph.replace(tensors=tensors)


def joined_network(seed: int, isa: str) -> Graph:
    """Depthwise layers of 3x3, each with the pointwise one behind it as one layer where a kernel is for both."""
    rng = np.random.default_rng(seed)

    def channels() -> int:
        return int(2 ** rng.uniform(2, 7))

    net = Net(f"joined{seed}", (1, *map(int, rng.integers(3, (12, 50)[seed % 2], 2)), channels()), seed)
    for _ in range(4):
        net.depthwise((3, 3), (1, 1, 2)[rng.integers(3)], "relu")
        net.conv(channels(), (1, 1), 1, ("relu", "relu", "none")[rng.integers(3)])
    graph = shrink(int8(net.graph(), samples=2)).graph
    for first, second, both in joinable(graph):
        if get_op(both.node.op).kernel(both, isa, fast=True).isa != "c":
            graph = joined(graph, first, second, both)
    return graph


@dataclass(frozen=True)
class Varied(Aim):
    """Calls of one row, of two, or of as many as the kernel likes, layer by layer."""

    seed: int = 0

    def rows(self, kernel: Kernel, view: View, *, whole: bool) -> int:
        most = min(kernel.whole_rows(view), view.y.frame.rows)
        return (super().rows(kernel, view, whole=whole), min(2, most), most)[
            (zlib.crc32(view.node.name.encode()) + self.seed) % 3
        ]


@dataclass(frozen=True)
class Job:
    """A network, shrunk, as one goal compiles it."""

    graph: Graph
    isa: str
    goal: str
    aim: Aim

    def plan(self) -> Plan:
        """Of kernels that are chosen without fitted costs, so that it does not depend on a fit."""
        return make_plan(self.graph, self.isa, stream=self.goal == "balanced", aim=self.aim)


@cache
def small(make: Callable[..., Graph], *args: Any) -> Graph:
    """A network for all goals and boards."""
    return with_c_names(shrink(make(*args)).graph)


def make_jobs(networks: int, isa: str, goal: str) -> list[Job]:
    """Where memory counts, some networks take the kernels of `--optimize ram`, some have calls of more rows."""
    isa, fast = "c" if goal == "flash" else isa, goal == "speed"
    plain = Aim(fast=fast, storage="dense")

    def aim(seed: int) -> Aim:
        kind = seed // 3 % 4 if goal == "balanced" else 0
        return Varied(storage="dense", seed=seed) if kind == 1 else Aim(least_ram=True) if kind == 2 else plain

    random = [Job(small(random_network, seed), isa, goal, aim(seed)) for seed in range(networks)]
    separable = [Job(small(separable_network, seed), isa, goal, aim(seed)) for seed in range(SEPARABLE)]
    cases = [Job(graph, isa, goal, plain) for graph in case_networks()]
    stored = [
        Job(small(stored_network, form, seed), isa, goal, Aim(fast=fast, storage=form))
        for form in STORAGES[1:]
        for seed in range(STORED)
    ]
    pairs = [joined_network(seed, isa) for seed in range(JOINED)] if fast and "dsp" in ISAS[isa] else []
    grouped = [
        Job(small(grouped_network, form, seed), isa, goal, Aim(fast=fast, storage=form))
        for form in ("dense", *GROUPED, "float16")
        for seed in range(STORED // 2)
    ]
    joint = [Job(graph, isa, goal, plain) for graph in pairs]
    return random + separable + cases + stored + grouped + joint


class Counts:
    """What was counted, by a hash of the sources and the compiler; one line of a file for each."""

    def __init__(self, path: Path):
        self.path, self.lock = path, Lock()
        path.parent.mkdir(exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        self.known = dict(json.loads(line) for line in lines if line.endswith("]"))

    def of(self, plan: Plan, board: Board, toolchain: Toolchain, goal: str) -> dict[str, int]:
        """The instructions of each layer, and of all that runs between the layers."""
        model = emit_model(plan, "network", "a fit", small=goal != "speed")
        sources = [bundle_files(model, plan, board, goal), toolchain.version]
        key = hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()
        if key not in self.known:
            run = build_plan(plan, board, toolchain, optimize=goal).run()
            found = {layer.name: layer.instructions for layer in run.layers}
            self.known[key] = found | {NETWORK: run.instructions - sum(found.values())}
            with self.lock, self.path.open("a") as file:
                file.write(json.dumps([key, self.known[key]]) + "\n")
        return self.known[key]


def points_of(plan: Plan | None, counts: Counts, board: Board, toolchain: Toolchain, goal: str) -> list[Point]:
    """Every layer of a network on the virtual board, and what runs between the layers."""
    if plan is None:
        return []
    try:
        found = counts.of(plan, board, toolchain, goal)
    except MinikinError as error:
        print(f"{plan.graph.name} left out: {error}", file=sys.stderr)
        return []
    points = [
        (step.layer.kernel.key, dense_key(step), fitted_work(plan, step), found[step.name]) for step in plan.steps
    ]
    return [*points, (NETWORK, "", network_work(plan), found[NETWORK])]


def dense_key(step: Step) -> str:
    """Of the kernel that one of packed weights expands groups of channels for, else ""."""
    own = step.layer.kernel
    for kernel in get_op(step.layer.view.node.op).kernels if own.storage != "dense" else ():
        if kernel.name in own.inner.values() and (kernel.fast, kernel.is_exact) == (own.fast, own.is_exact):
            return kernel.key
    return ""


def fitted_work(plan: Plan, step: Step) -> Work:
    """A layer's counts without those that its kernel has none of: fewer can be told apart by fewer layers."""
    return {name: value for name, value in step_work(plan, step).items() if not name.startswith("plain")}


@cache
def case_networks() -> list[Graph]:
    """Shrunk: the ops' cases, all of an op side by side, so that no kernel is left out."""
    floats, integers = defaultdict(list), defaultdict(list)
    for op in OPS.values():
        for case in op.cases if op.kernels else ():
            if "float32" in case.dtypes:
                floats[op.name].append(case_graph(op, case))
    for op, case, dtype in quantized_cases():
        if op.kernels:
            integers[op.name].append(int8_case(op, case, dtype))
    return [
        with_c_names(shrink(union(f"{op}_{kind}", own)).graph)
        for kind, cases in (("float", floats), ("int", integers))
        for op, own in cases.items()
    ]


def fit(points: list[Point]) -> dict[str, dict[str, float]]:
    """kernel -> count -> cost.

    A kernel of packed weights takes what the dense one takes that it calls, and more; without costs are those that do not
    predict layers that were held out.
    """
    rows: dict[str, list[tuple[Work, int]]] = defaultdict(list)
    for key, _, work, count in points:
        rows[key].append((work, count))
    packed = {kernel.key for op in OPS.values() for kernel in op.kernels if kernel.instructions}
    dense = {key: base for key, base, _, _ in points if base in rows}
    fitted: dict[str, dict[str, float]] = {}
    for key, own in sorted(rows.items(), key=lambda row: (row[0] in dense, row[0])):
        base = fitted.get(dense.get(key, ""), {})
        names = sorted({name for work, _ in own for name, value in work.items() if value} - (base.keys() - BOTH))
        a = np.array([[work.get(name, 0.0) for name in names] for work, _ in own])
        b = np.array([count for _, count in own], float)
        more = b - [sum(cost * work.get(name, 0.0) for name, cost in base.items()) for work, _ in own]
        weight = 1 / (b + SMALL)
        costs = robust_fit(a, more, weight)
        shares = (a * costs * weight[:, None]).max(axis=0)
        kept = {n: c for n, c, share in zip(names, costs, shares, strict=True) if share > LEAST_SHARE}
        errors, apart = np.abs(a @ costs - more) * weight, held_out(a, more, weight)
        enough = len(own) >= 2 * len(kept) and np.median(apart) < UNSURE
        known = key not in packed or enough or np.quantile(apart, 0.9) < UNSURE
        print(
            f"  {key:60} {len(own):4} layers, {len(kept):2} costs, error {np.median(errors):.2%}, "
            f"at most {errors.max():.1%}, held out {np.median(apart):.2%}, {np.quantile(apart, 0.9):.1%} for nine of ten"
            + ("" if known else ": left out")
        )
        if known:
            fitted[key] = base | {n: float(f"{c + base.get(n, 0.0):.4g}") for n, c in kept.items()}
    return fitted


def held_out(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The errors of layers whose fit was made without them, a fifth at a time."""
    errors = np.zeros_like(b)
    for part in range(5):
        own = np.arange(len(b)) % 5 == part
        if own.any() and not own.all():
            errors[own] = np.abs(a[own] @ robust_fit(a[~own], b[~own], weight[~own]) - b[own]) * weight[own]
    return errors


def robust_fit(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The x >= 0 with the least sum of |a @ x - b| * weight, by least squares that are weighted again and again.

    A compiler makes another loop of some shapes: such layers must not bend the costs of all others.
    """
    trust, x = np.ones_like(b), np.zeros(a.shape[1])
    for _ in range(ROUNDS):
        own = weight * np.sqrt(trust)
        scale = np.maximum((a * own[:, None]).max(axis=0), 1e-12)
        x = nnls(a * own[:, None] / scale, b * own, maxiter=20_000)[0] / scale
        trust = 1 / np.maximum(np.abs(a @ x - b) * weight, 0.01)
    return x


def table_text(table: dict[str, dict[str, Any]]) -> str:
    """A line for each kernel."""
    builds = []
    for name, build in sorted(table.items()):
        kernels = ",\n".join(f"  {json.dumps(key)}: {json.dumps(own)}" for key, own in build["kernels"].items())
        builds.append(
            f'{json.dumps(name)}: {{"compiler": {json.dumps(build["compiler"])}, "kernels": {{\n{kernels}\n}}}}'
        )
    return "{\n" + ",\n".join(builds) + "\n}\n"


def planned(job: Job) -> Plan | None:
    try:
        return job.plan()
    except MinikinError as error:
        print(f"{job.graph.name} left out: {error}", file=sys.stderr)
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append")
    parser.add_argument("--toolchain", action="append")
    parser.add_argument("--optimize", action="append", choices=GOALS)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    counts = Counts(COUNTS)
    for name, goal in product(given.board or BOARDS, given.optimize or GOALS):
        board = get_board(name)
        jobs = make_jobs(given.networks, board.core.isa, goal)
        plans = [planned(job) for job in jobs]
        for toolchain in given.toolchain or TOOLCHAINS:
            tool = find_toolchain(toolchain, board.core.gcc)
            key = f"{fitted_core(board.core)} {toolchain} {goal}"
            print(f"{key}, {len(plans)} networks", flush=True)
            points = []
            with ThreadPoolExecutor(given.workers) as pool:
                found = [pool.submit(points_of, plan, counts, board, tool, goal) for plan in plans]
                for done, future in enumerate(found, 1):
                    points += future.result()
                    print(f"\r{done} of {len(found)}", end="", file=sys.stderr, flush=True)
            table = json.loads(COSTS.read_text()) if COSTS.is_file() else {}
            table[key] = {"compiler": tool.version, "kernels": fit(points)}
            write_atomically(COSTS, table_text(table))


if __name__ == "__main__":
    main()
