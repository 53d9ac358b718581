"""The compression table: networks trained, compressed by a recipe, compiled, and run on the host and on the emulated board.

python benchmarks/compression.py [--row lenet300 ...] [--seed 0 1 2] [--quick] [--validation] [--board B] [--work FOLDER]

Every row trains its dense baseline, compresses it as benchmarks/recipes/ROW.toml says, builds the firmware, runs all test
samples through host-compiled C and some of them on the emulated board. What has finished is kept in the work folder, so
that a killed run goes on; the results are merged into benchmarks/results/compression.json, with the median (or, where drops
are judged, the mean) of the seeds.

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
from minikin.compress.recipe import Prune, Recipe
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
FIGURES = (
    "baseline_error",
    "error",
    "stored_bytes",
    "ratio",
    "weights_bytes",
    "firmware_flash_bytes",
    "instructions",
    "nonzero",
)
QUICK = 0.1
"""Of the epochs, where a quick run is asked for."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: a network of the zoo, its data, how its baseline is trained, and what is to be reached.

    `options` are the network's, `baseline` holds options of `minikin.train.loop.fit`; `recipe` names a file in
    benchmarks/recipes, and `sparsity` takes the place of the one that its pruning has. `optimize` and `storage` are those
    of `mk.compile`. Errors are in percent; `error` None: no more than the baseline's. Where `drop` is set the seeds' mean
    counts instead of their median, and the error may be so many points above the baseline's.
    """

    network: str
    options: dict[str, Any] = field(default_factory=dict)
    data: str
    baseline: dict[str, Any] = field(default_factory=dict)
    recipe: str
    sparsity: float | None = None
    optimize: str = "flash"
    storage: str | None = None
    board_samples: int = 200
    baseline_error: float
    error: float | None = None
    drop: float | None = None
    ratio: float = 1
    firmware_bytes: int | None = None


LENET = {
    "optimizer": "nesterov",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "schedule": "cosine",
    "keep": "last",
}

KEYWORDS = {
    "epochs": 40,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "warmup_epochs": 1,
    "augment": ("time_shift=100", "speed=0.1", "background=0.3"),
}

IMAGES = {
    "epochs": 40,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 5e-2,
    "warmup_epochs": 1,
    "augment": ("shift=4", "flip=0.5"),
    "keep": "last",
}


def keyword_row(recipe: str, **fields: Any) -> Row:
    known = {"network": "ds_cnn_s", "options": {"dropout": 0.2}, "baseline": KEYWORDS, "baseline_error": 20}
    return Row(data="speech_commands", recipe=recipe, board_samples=50, **known | fields)


def sparse_row(sparsity: float, drop: float) -> Row:
    return Row(
        network="mobilenet",
        options={"width": 0.25},
        data="cifar10",
        baseline=IMAGES,
        board_samples=25,
        recipe="mobilenet",
        sparsity=sparsity,
        baseline_error=40,
        drop=drop,
    )


ROWS = {
    "lenet300": Row(
        network="lenet300",
        data="mnist",
        baseline=LENET | {"epochs": 30, "batch_size": 64},
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
    "kws_ptq": keyword_row("int8", storage="dense", drop=0.2, ratio=3.3),
    "kws_qat": keyword_row("kws_qat", storage="dense", drop=0, ratio=3.3),
    "kws_clustered": keyword_row("kws_clustered", drop=0, ratio=4),
    "ds_cnn_l_16": keyword_row(
        "ds_cnn_l_16",
        network="ds_cnn_l",
        baseline=KEYWORDS | {"epochs": 25, "keep": "last"},
        storage="codebook",
        drop=0,
        ratio=5,
    ),
    "mobilenet_0": sparse_row(0, 0.5),
    "mobilenet_50": sparse_row(0.5, 0.5),
    "mobilenet_75": sparse_row(0.75, 1.5),
    "mobilenet_90": sparse_row(0.9, 4),
    "mobilenet_95": sparse_row(0.95, 8),
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
    folder = stem.with_name(f"{stem.name}-c")
    build = mk.compile(result.graph, job.board, folder, optimize=job.row.optimize, storage=job.row.storage)
    dense, stored = 4 * before.parameters, stored_bytes(build)
    return {
        "name": job.name,
        "seed": job.seed,
        "baseline_error": _error(before.test_accuracy),
        **measure(build, result.graph, job),
        "dense_bytes": dense,
        "stored_bytes": stored,
        "ratio": round(dense / stored, 1),
        "weights_bytes": build.stored_bytes,
        "firmware_flash_bytes": build.flash_bytes,
        "instructions": build.run().instructions,
        "storage": sorted({own.storage for own in build.stored}),
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
    facts = [row.network, row.data, row.baseline, job.seed, len(data.x_train), *([row.options] if row.options else [])]
    text = json.dumps(facts)
    path = job.work / f"{row.network}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.tflite"
    if not path.exists():
        torch.manual_seed(job.seed)
        model = get_model(row.network, data.sample_shape, len(data.classes), **row.options)
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
    board, engine = run_samples(build, codes[: job.row.board_samples], report)
    same = all(a.tobytes() == b[0].tobytes() for a, b in zip(host, board, strict=False))
    return {
        "error": _error(np.mean(values.argmax(axis=1) == data.y_test)),
        "host_samples": len(codes),
        "host_equal": bool(np.array_equal(values, outputs_of(graph, data.x_test))),
        "board_samples": len(board),
        "board_equal": same,
        "engine": engine,
    }


def recipe_of(row: Row) -> Recipe:
    """The recipe that a row names, with the row's sparsity; none is pruned where that is 0."""
    recipe = Recipe.load(HERE / "recipes" / f"{row.recipe}.toml")
    if row.sparsity is None:
        return recipe
    update = {"sparsity": row.sparsity}
    steps = [step.model_copy(update=update) if isinstance(step, Prune) else step for step in recipe.steps]
    kept = tuple(step for step in steps if row.sparsity or not isinstance(step, Prune))
    return recipe.model_copy(update={"steps": kept})


def quick(row: Row, recipe: Recipe) -> tuple[Row, Recipe]:
    """The same with a tenth of the epochs."""
    steps = tuple(step.model_copy(update={"epochs": _fewer(step.epochs)}) for step in recipe.steps)
    baseline = row.baseline | {"epochs": _fewer(row.baseline["epochs"])}
    return replace(row, baseline=baseline), recipe.model_copy(update={"steps": steps})


def _fewer(epochs: int) -> int:
    return max(1, round(QUICK * epochs)) if epochs else 0


def summarize(entries: list[dict[str, Any]], row: Row) -> dict[str, Any]:
    """The median of each figure over the seeds, or the mean where drops are judged, and whether the targets are met by it.

    They are not where a seed is missing.
    """
    kind, middle = ("median", statistics.median) if row.drop is None else ("mean", statistics.mean)
    summary = {"name": entries[0]["name"], "seed": f"{kind} of " + ", ".join(str(e["seed"]) for e in entries)}
    summary |= {name: round(middle(e[name] for e in entries), 2) for name in FIGURES if name in entries[0]}
    summary |= {name: all(e[name] for e in entries) for name in ("host_equal", "board_equal")}
    summary["dense_bytes"] = entries[0]["dense_bytes"]
    allowed = round(summary["baseline_error"] + (row.drop or 0), 2) if row.error is None else row.error
    summary["met"] = (
        {e["seed"] for e in entries} >= set(SEEDS)
        and summary["baseline_error"] <= row.baseline_error
        and summary["error"] <= allowed
        and summary["dense_bytes"] / summary["stored_bytes"] >= row.ratio
        and (row.firmware_bytes is None or summary["firmware_flash_bytes"] < row.firmware_bytes)
        and summary["host_equal"]
        and summary["board_equal"]
    )
    summary["command"] = f"python benchmarks/compression.py --row {summary['name']}"
    return summary


def merge(path: Path, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with these entries in place of those of the same row and seed, and the summaries made anew."""
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    by_key = {(e["name"], e["seed"]): e for e in held if isinstance(e["seed"], int)}
    by_key |= {(e["name"], e["seed"]): e for e in entries}
    rows: list[dict[str, Any]] = []
    for name in [*ROWS, *sorted({name for name, _ in by_key} - ROWS.keys())]:
        own = [by_key[key] for key in sorted(by_key, key=str) if key[0] == name]
        rows += own
        if own and name in ROWS:
            rows.append(summarize(own, ROWS[name]))
    path.parent.mkdir(exist_ok=True)
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
        data, recipe = load_dataset(row.data), recipe_of(row)
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
