"""The compression table: networks trained, compressed by a recipe, compiled, and run on the host and on the emulated board.

python benchmarks/compression.py [--row lenet300 ...] [--seed 0 1 2] [--quick] [--validation] [--board B] [--work FOLDER]

Every row trains its dense baseline, compresses it as benchmarks/recipes/ROW.toml says, builds the firmware, runs all test
samples through host-compiled C and 200 of them on the emulated board. What has finished is kept in the work folder, so
that a killed run goes on; the results are merged into benchmarks/results/compression.json, with the median of the seeds.

Recipes were chosen with `--validation`, which puts the validation part in the test part's place; the test part is read for
the figures alone. `--quick` trains a tenth of the epochs. Neither of the two writes results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import minikin as mk
from minikin.compress.accuracy import outputs_of
from minikin.compress.quantize import dequantize_array, quantize_array
from minikin.compress.recipe import Recipe
from minikin.data import Dataset, load_dataset
from minikin.files import write_atomically
from minikin.graph import Graph
from minikin.train.loop import fit, to_nchw
from minikin.train.zoo import get_model
from minikin.vboard.build import Build
from minikin.vboard.elf import Firmware
from minikin.vboard.host import HostProgram
from minikin.vboard.run import run_samples

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "compression.json"
SEEDS = (0, 1, 2)
BOARD_SAMPLES = 200
QUICK = 0.1
"""Of the epochs, where a quick run is asked for."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: a network of the zoo, its data, how its baseline is trained, and what is to be reached.

    `recipe` names a file in benchmarks/recipes; `baseline` holds options of `minikin.train.loop.fit`. Errors are in percent;
    `error` None: no more than the baseline's.
    """

    network: str
    data: str
    baseline: dict[str, Any] = field(default_factory=dict)
    recipe: str
    baseline_error: float
    error: float | None = None
    ratio: float
    firmware_bytes: int | None = None


LENET = {
    "optimizer": "nesterov",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "schedule": "cosine",
    "keep": "last",
}

ROWS = {
    "lenet300": Row(
        network="lenet300",
        data="mnist",
        baseline=LENET | {"epochs": 20},
        recipe="lenet300",
        baseline_error=1.65,
        ratio=100,
        firmware_bytes=27_000,
    ),
    "lenet5_400": Row(
        network="lenet5",
        data="mnist",
        baseline=LENET | {"epochs": 10},
        recipe="lenet5_400",
        baseline_error=0.85,
        error=1.0,
        ratio=400,
    ),
    "lenet5_150": Row(
        network="lenet5",
        data="mnist",
        baseline=LENET | {"epochs": 10},
        recipe="lenet5_150",
        baseline_error=0.85,
        ratio=150,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row with one seed. What the training makes lies in the folder `work`, and is taken from there if it is there."""

    name: str
    row: Row
    data: Dataset
    recipe: Recipe
    seed: int
    board: str
    work: Path
    report: Progress


def run_row(job: Job) -> dict[str, Any]:
    """One entry of the results."""
    start = time.monotonic()
    job.work.mkdir(parents=True, exist_ok=True)
    stem = job.work / f"{job.name}-{job.seed}"
    result = mk.compress(
        train_baseline(job),
        job.data,
        job.recipe.model_copy(update={"seed": job.seed}),
        progress=job.report,
        checkpoint_dir=stem,
    )
    result.save(stem.with_suffix(".tflite"))
    before, after = result.rows[0], result.rows[-1]
    build = mk.compile(result.graph, job.board, stem.with_name(f"{stem.name}-c"), optimize="flash")
    dense, stored = 4 * before.parameters, stored_bytes(build)
    return {
        "name": job.name,
        "seed": job.seed,
        "baseline_error": _error(before.test_accuracy),
        **measure(build, result.graph, job),
        "dense_bytes": dense,
        "stored_bytes": stored,
        "ratio": round(dense / stored, 1),
        "firmware_flash_bytes": build.flash_bytes,
        "parameters": before.parameters,
        "nonzero": after.nonzero,
        "baseline_validation_error": _error(before.validation_accuracy),
        "validation_error": _error(after.validation_accuracy),
        "model_sha256": hashlib.sha256(stem.with_suffix(".tflite").read_bytes()).hexdigest(),
        "board": job.board,
        "toolchain": build.toolchain.version,
        "seconds": round(time.monotonic() - start),
        "command": f"python benchmarks/compression.py --row {job.name} --seed {job.seed}",
    }


def train_baseline(job: Job) -> Graph:
    """The dense network as a float graph. The same network, data, options and seed are trained once."""
    row, data = job.row, job.data
    text = json.dumps([row.network, row.data, row.baseline, job.seed, len(data.x_train)])
    path = job.work / f"{row.network}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.tflite"
    if not path.exists():
        torch.manual_seed(job.seed)
        model = get_model(row.network, data.sample_shape, len(data.classes))
        fit(
            model,
            data,
            seed=job.seed,
            progress=lambda epoch: job.report(f"train {row.network}", epoch.number + 1, row.baseline["epochs"]),
            checkpoint_dir=path.with_suffix(""),
            resume=True,
            **row.baseline,
        )
        mk.save(mk.load(model, (to_nchw(data.x_train[:1]),)), path)
    return mk.load(path)


def stored_bytes(build: Build) -> int:
    """All of the firmware's flash but its code: weights, codebooks, biases, requantization, the layers' structs.

    At least what the layers' forms take, of which the compiler may have made instructions.
    """
    sections = Firmware(build.elf).sections
    return max(build.stored_bytes, sum(section.size for section in sections if section.kind in ("rodata", "data")))


def measure(build: Build, graph: Graph, job: Job) -> dict[str, Any]:
    """Error of host-compiled C on all test samples; whether the integer graph, the host and the board gave the same bytes."""
    data, report = job.data, job.report
    entry, exit_ = graph.input_tensors[0], graph.output_tensors[0]
    codes = [[quantize_array(x, entry).reshape(entry.shape)] for x in data.x_test]
    host = []
    with HostProgram(build.plan, build.model) as program:
        for number, sample in enumerate(codes):
            host.append(program.run(sample)[0][0].copy())
            if (number + 1) % 1000 == 0:
                report("host C", number + 1, len(codes))
    values = np.stack([dequantize_array(y, exit_).reshape(-1) for y in host])
    board, engine = run_samples(build, codes[:BOARD_SAMPLES], report)
    same = all(a.tobytes() == b[0].tobytes() for a, b in zip(host, board, strict=False))
    return {
        "error": _error(np.mean(values.argmax(axis=1) == data.y_test)),
        "host_samples": len(codes),
        "host_equal": bool(np.array_equal(values, outputs_of(graph, data.x_test))),
        "board_samples": len(board),
        "board_equal": same,
        "engine": engine,
    }


def quick(row: Row, recipe: Recipe) -> tuple[Row, Recipe]:
    """The same with a tenth of the epochs."""
    steps = tuple(step.model_copy(update={"epochs": _fewer(step.epochs)}) for step in recipe.steps)
    baseline = row.baseline | {"epochs": _fewer(row.baseline["epochs"])}
    return replace(row, baseline=baseline), recipe.model_copy(update={"steps": steps})


def _fewer(epochs: int) -> int:
    return max(1, round(QUICK * epochs)) if epochs else 0


def median(entries: list[dict[str, Any]], row: Row) -> dict[str, Any]:
    """The median of each figure over the seeds, and whether the targets are met by it."""
    figures = ("baseline_error", "error", "stored_bytes", "ratio", "firmware_flash_bytes")
    summary = {"name": entries[0]["name"], "seed": "median of " + ", ".join(str(e["seed"]) for e in entries)}
    summary |= {name: statistics.median(e[name] for e in entries) for name in figures}
    summary |= {name: all(e[name] for e in entries) for name in ("host_equal", "board_equal")}
    summary["dense_bytes"] = entries[0]["dense_bytes"]
    summary["met"] = (
        summary["baseline_error"] <= row.baseline_error
        and summary["error"] <= (summary["baseline_error"] if row.error is None else row.error)
        and summary["ratio"] >= row.ratio
        and (row.firmware_bytes is None or summary["firmware_flash_bytes"] < row.firmware_bytes)
        and summary["host_equal"]
        and summary["board_equal"]
    )
    summary["command"] = f"python benchmarks/compression.py --row {summary['name']}"
    return summary


def merge(path: Path, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with these entries in place of those of the same row and seed, and the medians made anew."""
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    by_key = {(e["name"], e["seed"]): e for e in held if isinstance(e["seed"], int)}
    by_key |= {(e["name"], e["seed"]): e for e in entries}
    rows: list[dict[str, Any]] = []
    for name in [*ROWS, *sorted({name for name, _ in by_key} - ROWS.keys())]:
        own = [by_key[key] for key in sorted(by_key, key=str) if key[0] == name]
        rows += own
        if own and name in ROWS:
            rows.append(median(own, ROWS[name]))
    write_atomically(path, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


def line(entry: dict[str, Any]) -> str:
    error = f"{entry['baseline_error']:.2f} -> {entry['error']:.2f}%"
    size = f"{entry['dense_bytes']:,} -> {entry['stored_bytes']:,} bytes ({entry['ratio']:.1f}x)"
    equal = "host and board equal" if entry["host_equal"] and entry["board_equal"] else "NOT EQUAL"
    return f"{entry['name']:12} seed {entry['seed']!s:18} {error}  {size}  flash {entry['firmware_flash_bytes']:,}  {equal}"


def _error(accuracy: Any) -> float:
    """In percent."""
    return round(100.0 * (1.0 - float(accuracy)), 2)


def _show(what: str, done: int, total: int) -> None:
    print(f"\r  {what} {done}/{total}\033[K", end="" if done < total else "\n", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seed", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--board", default="nucleo-l4r5zi")
    parser.add_argument("--work", type=Path, default=Path("build/compression"))
    options = parser.parse_args()
    trial = options.quick or options.validation
    torch.set_num_threads(1)  # the same bytes on any number of cores

    for name in options.row:
        row = ROWS[name]
        data, recipe = load_dataset(row.data), Recipe.load(HERE / "recipes" / f"{row.recipe}.toml")
        if options.validation:
            data = replace(data, x_test=data.x_validation, y_test=data.y_validation)
        if options.quick:
            row, recipe = quick(row, recipe)
        work = options.work / "quick" if options.quick else options.work
        for seed in options.seed[:1] if options.quick else options.seed:
            job = Job(
                name=name, row=row, data=data, recipe=recipe, seed=seed, board=options.board, work=work, report=_show
            )
            entry = run_row(job)
            print(line(entry), flush=True)
            if not trial:
                merge(RESULTS, [entry])
    if not trial:
        for entry in merge(RESULTS, []):
            print(line(entry))


if __name__ == "__main__":
    main()
