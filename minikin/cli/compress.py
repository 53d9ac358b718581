"""`minikin compress`: a recipe, or the few options of the usual one; or a sweep over sparsities."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from minikin.cli.app import Json, Model, app
from minikin.cli.options import Optimize, ToolchainName
from minikin.errors import UsageError

PLOTS = (".svg", ".html")


class Weights(StrEnum):
    int8 = "int8"
    int4 = "int4"
    dynamic = "dynamic"
    float16 = "float16"


Data = Annotated[str, typer.Option("--data", help="A data set: its name, a file or a folder.", show_default=False)]


@app.command()
def compress(
    model: Model,
    data: Data,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The .tflite to write.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="The steps, as TOML.")] = None,
    prune: Annotated[float | None, typer.Option("--prune", help="Zero this fraction of every layer's weights.")] = None,
    pattern: Annotated[str, typer.Option("--pattern", help="unstructured, channels, 2:4, 1x4.")] = "unstructured",
    cluster: Annotated[int | None, typer.Option("--cluster", help="So many values in a layer.")] = None,
    quantize: Annotated[Weights | None, typer.Option("--quantize", help="Of the weights.")] = None,
    finetune: Annotated[int, typer.Option("--finetune", min=0, help="Epochs of training in every step.")] = 0,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of the training.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Of the training.")] = None,
    loss: Annotated[
        str | None,
        typer.Option("--loss", help="cross_entropy, binary, mse or reconstruction; by the data if not given."),
    ] = None,
    board: Annotated[str | None, typer.Option("--board", "-b", help="Measure every step on this board.")] = None,
    toolchain: Annotated[ToolchainName, typer.Option("--toolchain", help="The C compiler.")] = ToolchainName.zig,
    optimize: Annotated[
        Optimize, typer.Option("--optimize", help="What the measured build saves.")
    ] = Optimize.balanced,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop", help="Write nothing where accuracy falls by more points, or the RMSE rises by more percent."
        ),
    ] = None,
    sweep: Annotated[str | None, typer.Option("--sweep", help="Sparsities to try: 0,0.5,0.75,0.9.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the sweep into this .svg or .html.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Keep finished steps here, and go on.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data where it is missing.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of training and clustering.")] = 0,
    as_json: Json = False,
) -> None:
    """Prune, cluster, quantize and fine-tune a float model; show what each step costs and saves."""
    from minikin import api
    from minikin.cli.arrays import check_tflite_path
    from minikin.cli.show import err, progress, show
    from minikin.data import load_dataset

    short = {"prune": prune, "cluster": cluster, "quantize": quantize and quantize.value}
    training = {"epochs": finetune, "learning_rate": learning_rate, "batch_size": batch_size, "loss": loss}
    training = {name: value for name, value in training.items() if value is not None}
    chosen: Any = None
    if sweep is not None:
        _refuse_beside_sweep(output=output, recipe=recipe, prune=prune, cluster=cluster, max_drop=max_drop)
        chosen = _sweep_steps(sweep, pattern, short["quantize"], training)
        if plot and (plot.suffix not in PLOTS or not plot.parent.is_dir()):
            raise UsageError(f"--plot {plot} is no .svg or .html in a folder that exists: name one")
    else:
        if output is None:
            raise UsageError("there is no output: name the .tflite to write with -o")
        check_tflite_path(output)
        chosen = _recipe(recipe, short, pattern, training, seed)
    measure = api.measure_on(board, optimize=optimize.value, toolchain=toolchain.value) if board else None
    graph, dataset = api.load(model), load_dataset(data, **({"download": True} if download else {}))
    options: dict[str, Any] = {"measure": measure, "checkpoint_dir": checkpoint}
    if output is None:
        from minikin.compress.sweep import sweep as sweep_graph

        with progress() as report:
            table = sweep_graph(graph, dataset, **chosen, seed=seed, progress=report, **options)
        if plot:
            table.save_plot(plot)
        show(table, as_json)
        return
    with progress() as report:
        result = api.compress(graph, dataset, chosen, progress=report, **options)
    kept = max_drop is None or result.drop <= max_drop
    files = result.save(output) if kept else []
    show(result, as_json, **result.to_json(), files=[str(path) for path in files])
    if not kept:
        err.print(
            f"minikin: {result.loss_text}, more than --max-drop {max_drop:g}, so nothing is written: "
            f"train longer, or prune and cluster less",
            soft_wrap=True,
        )
        raise typer.Exit(1)


def _recipe(path: Path | None, short: dict[str, Any], pattern: str, training: dict[str, Any], seed: int) -> Any:
    """The recipe of the file, or the one that the options stand for: each of its steps trains."""
    from minikin.compress.recipe import Recipe, parse_recipe

    given = [f"--{name}" for name, value in short.items() if value is not None]
    if path is not None:
        extra = [*given, *(f"--{name.replace('_', '-')}" for name, value in training.items() if value)]
        extra += ["--pattern"] if pattern != "unstructured" else []
        if extra:
            raise UsageError(f"--recipe {path} and {extra[0]} both say what to do: write it into the recipe")
        loaded = Recipe.load(path)
        return loaded.model_copy(update={"seed": seed}) if seed else loaded
    fields = {
        "prune": {"sparsity": short["prune"], "pattern": pattern},
        "cluster": {"clusters": short["cluster"]},
        "quantize": {"weights": short["quantize"]},
    }
    steps = [{"do": name, **fields[name], **training} for name in fields if short[name] is not None]
    if not steps and training.get("epochs"):
        steps = [{"do": "finetune", **training}]
    if not steps:
        raise UsageError("there is nothing to do: give --recipe, or some of --prune, --cluster, --quantize, --finetune")
    shared = {"loss": training["loss"]} if "loss" in training else {}
    return parse_recipe({"seed": seed, "training": shared, "step": steps}, "the options")


def _sweep_steps(text: str, pattern: str, weights: str | None, training: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `minikin.compress.sweep.sweep` that the options stand for."""
    from minikin.compress.recipe import Training, parse_recipe

    try:
        sparsities = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sweep {text} is no list of fractions: write it as 0,0.5,0.75,0.9") from None
    prune = {"do": "prune", "sparsity": 0.5, "pattern": pattern, **training}
    quantize = {"do": "quantize", "weights": weights or "int8"}
    steps = parse_recipe({"step": [prune, quantize]}, "the options").steps
    shared = Training(loss=training.get("loss"))
    return {"sparsities": sparsities, "prune": steps[0], "quantize": steps[1], "training": shared}


def _refuse_beside_sweep(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--sweep makes a table and writes no model: leave out --{name.replace('_', '-')}")
