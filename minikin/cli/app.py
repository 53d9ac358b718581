"""minikin: fits neural networks into microcontrollers, and proves that they fit."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from minikin.cli.options import Optimize, ToolchainName, compiles
from minikin.cli.train import train
from minikin.version import __version__

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(train)


class Rounding(StrEnum):
    micro = "micro"
    litert = "litert"


class Method(StrEnum):
    minmax = "minmax"
    percentile = "percentile"
    mse = "mse"
    entropy = "entropy"


Model = Annotated[Path, typer.Argument(help="A .tflite or .pt2 file.", show_default=False)]
BoardName = Annotated[str, typer.Option("--board", "-b", help="See `minikin boards`.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Round = Annotated[Rounding, typer.Option("--rounding", help="TFLite Micro's meaning, or LiteRT's reference kernels'.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of random inputs.")]
TfliteFile = Annotated[Path, typer.Option("--output", "-o", help="The .tflite to write.", show_default=False)]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"minikin {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=False)
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command()
def boards(as_json: Json = False) -> None:
    """List the boards: core, clock, flash, RAM, and where the figures come from."""
    from minikin.boards import load_boards
    from minikin.cli.show import show
    from minikin.display import Table

    rows = load_boards()
    table = Table("board", "core", ">MHz", ">flash KB", ">RAM KB", ">other RAM KB")
    table.caption = "\n".join(f"{b.name}: {b.title}; {b.source}" for b in rows.values())
    for b in rows.values():
        other = sum(region.size_bytes for region in b.extra_ram) // 1024
        sizes = (b.clock_hz // 10**6, b.flash_bytes // 1024, b.ram_bytes // 1024, other or "")
        table.add_row(b.name, b.core.name, *map(str, sizes))
    listing = [
        {
            "name": b.name,
            "title": b.title,
            "core": b.core.name,
            "isa": b.core.isa,
            "clock_hz": b.clock_hz,
            "flash_bytes": b.flash_bytes,
            "ram_bytes": b.ram_bytes,
            "extra_ram_bytes": [region.size_bytes for region in b.extra_ram],
            "source": b.source,
        }
        for b in rows.values()
    ]
    show(table, as_json, boards=listing)


@app.command()
def inspect(
    model: Model,
    board: Annotated[str | None, typer.Option("--board", "-b", help="Say whether it fits this board.")] = None,
    as_json: Json = False,
) -> None:
    """Show layers, shapes, parameters, MACs, the memory alive at each step, the peak and its layer."""
    from minikin import api
    from minikin.boards import get_board
    from minikin.cli.show import show

    if board:
        get_board(board)
    found = api.inspect(api.load(model), board)
    show(found, as_json)
    if found.fits is False:
        raise typer.Exit(1)


@app.command()
@compiles
def compile(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.", show_default=False)],
    rounding: Round = Rounding.micro,
    as_json: Json = False,
) -> None:
    """Write readable C99 with a demo main, linker script and Makefile, and build the firmware."""
    from minikin import api
    from minikin.cli.show import show
    from minikin.codegen.bundle import refuse_foreign

    refuse_foreign(output)
    build = api.compile(_load(model, board, rounding), board, output, **options)
    show(build, as_json, **build.sizes(), path=str(build.path))


@app.command()
@compiles
def run(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    input: Annotated[list[Path] | None, typer.Option("--input", "-i", help="One .npy or .bin for each input.")] = None,
    output: Annotated[
        list[Path] | None, typer.Option("--output", "-o", help="One .npy or .bin to write for each output.")
    ] = None,
    rounding: Round = Rounding.micro,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run one inference on the emulated board: instructions in all and per layer, RAM, flash, stack."""
    from minikin import api
    from minikin.cli.arrays import check_output_paths, read_inputs, save_array
    from minikin.cli.show import show
    from minikin.vboard.run import run as run_build

    graph = _load(model, board, rounding)
    check_output_paths(output or [], graph)
    inputs = read_inputs(input, graph) if input else None
    result = run_build(api.compile(graph, board, **options), inputs, seed)
    for path, array in zip(output or [], result.outputs, strict=False):
        save_array(path, array)
    show(result, as_json)


@app.command()
@compiles
def verify(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Random samples.")] = 20,
    data: Annotated[
        Path | None, typer.Option("--data", help="Samples from a .npy or .npz, first axis the samples.")
    ] = None,
    rounding: Round = Rounding.micro,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare reference, host C and board C, layer by layer: equal, or the first tensor that differs."""
    from minikin import api
    from minikin.cli.arrays import read_samples
    from minikin.cli.show import progress, show
    from minikin.vboard.verify import verify as verify_build

    graph = _load(model, board, rounding)
    chosen = read_samples(data, graph) if data else samples
    with progress() as report:
        result = verify_build(api.compile(graph, board, **options), chosen, seed=seed, progress=report)
    show(result, as_json)
    if not result.equal:
        raise typer.Exit(1)


@app.command()
@compiles
def plan(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    svg: Annotated[Path | None, typer.Option("--svg", help="Also draw it into this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show memory over time: each tensor, the rows that it keeps, its offsets, the peak, the bound."""
    from minikin import api
    from minikin.cli.show import out, show
    from minikin.files import write_atomically
    from minikin.plan.picture import draw_svg, draw_text, summary

    made = api.make_plan(_load(model, board, Rounding.micro), board, **options)
    if svg:
        write_atomically(svg, draw_svg(made))
    if as_json:
        show(made, as_json, **summary(made))
    else:
        out.print(draw_text(made), highlight=False, soft_wrap=True)


@app.command()
def convert(
    model: Model,
    output: TfliteFile,
    c_array: Annotated[bool, typer.Option("--c-array", help="Also write it as a C array beside it, .h.")] = False,
    as_json: Json = False,
) -> None:
    """Write a model as .tflite, and as a C array where asked."""
    from minikin import api
    from minikin.cli.arrays import check_tflite_path
    from minikin.cli.show import show

    check_tflite_path(output)
    graph = api.load(model)
    written = [api.save(graph, output)]
    if c_array:
        written.append(api.save_c_array(graph, output.with_suffix(".h")))
    sizes = {str(path): path.stat().st_size for path in written}
    show("\n".join(f"{path}: {size:,} bytes" for path, size in sizes.items()), as_json, files=sizes)


@app.command()
def quantize(
    model: Model,
    calibration: Annotated[
        Path,
        typer.Option(
            "--calibration",
            "-c",
            help="A .npy or .npz of float samples, first axis the samples.",
            show_default=False,
        ),
    ],
    output: TfliteFile,
    method: Annotated[Method, typer.Option("--method", help="How activation ranges are chosen.")] = Method.minmax,
    as_json: Json = False,
) -> None:
    """Quantize a float model to int8 with calibration samples, and show the error of each layer."""
    from minikin import api
    from minikin.cli.arrays import check_tflite_path, read_samples
    from minikin.cli.show import out, show
    from minikin.compress.quantize import error_table, layer_errors, require_float

    check_tflite_path(output)
    graph = api.load(model)
    require_float(graph)
    samples = read_samples(calibration, graph)
    small = api.quantize(graph, samples, method=method.value)
    errors = layer_errors(graph, small, samples[:64])
    path = api.save(small, output)
    size = path.stat().st_size
    show(error_table(errors), as_json, path=str(path), bytes=size, layers=[e.to_json() for e in errors])
    if not as_json:
        out.print(f"\n{path}: {size:,} bytes", soft_wrap=True)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for what it makes.")] = Path(
        "minikin-demo"
    ),
    board: Annotated[str, typer.Option("--board", "-b", help="See `minikin boards`.")] = "nano33ble",
    download: Annotated[bool, typer.Option("--download", help="Fetch MNIST for the course's network.")] = False,
    toolchain: Annotated[ToolchainName, typer.Option("--toolchain", help="The C compiler.")] = ToolchainName.zig,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of training.")] = 0,
    as_json: Json = False,
) -> None:
    """Train, quantize, compile and run small networks on an emulated board, and show that the bytes are equal."""
    from minikin.cli.show import progress, show
    from minikin.demo import run_demo

    with progress() as report:
        result = run_demo(output, board, download=download, toolchain=toolchain.value, seed=seed, progress=report)
    show(result, as_json)
    if not result.equal:
        raise typer.Exit(1)


@app.command()
@compiles
def profile(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    hot: Annotated[int, typer.Option("--hot", min=0, help="Disassemble so many of the hottest blocks.")] = 0,
    rounding: Round = Rounding.micro,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show where the instructions of an inference go: by layer, per MAC, by class, and in which loops."""
    from minikin import api
    from minikin.cli.show import out, show
    from minikin.vboard.profile import profile as profile_build

    result = profile_build(api.compile(_load(model, board, rounding), board, **options), seed=seed, hot=hot)
    show(result, as_json)
    if hot and not as_json:
        out.print(result.hot_table())


@app.command()
@compiles
def costs(
    options: dict[str, Any],
    model: Model,
    board: BoardName,
    rounding: Round = Rounding.micro,
    as_json: Json = False,
) -> None:
    """Predict the instructions of each layer from fitted costs, and count them on the emulated board."""
    from minikin import api
    from minikin.cli.show import show
    from minikin.vboard.prediction import compare

    show(compare(api.compile(_load(model, board, rounding), board, **options)), as_json)


@app.command()
def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Models to measure; MLPerf Tiny's four and a dense one by default.")
    ] = None,
    board: Annotated[str, typer.Option("--board", "-b", help="See `minikin boards`.")] = "nucleo-l4r5zi",
    folder: Annotated[
        Path | None, typer.Option("--models", help="Where MLPerf Tiny's .tflite files lie (or MINIKIN_TEST_DATA).")
    ] = None,
    toolchain: Annotated[
        list[ToolchainName], typer.Option("--toolchain", help="A C compiler; may be given several times.")
    ] = [ToolchainName.zig],  # noqa: B006
    optimize: Annotated[
        list[Optimize], typer.Option("--optimize", help="What to save; may be given several times.")
    ] = [Optimize.speed, Optimize.balanced],  # noqa: B006
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Random samples to compare.")] = 3,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw it into this .svg or .html file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure models in several builds, beside the recorded figures of TFLite Micro with CMSIS-NN and of silicon."""
    from minikin.bench import bench as run_bench
    from minikin.bench.plot import draw_html, draw_svg
    from minikin.cli.show import progress, show
    from minikin.errors import UsageError
    from minikin.files import write_atomically

    drawing = {".svg": draw_svg, ".html": draw_html}.get(plot.suffix if plot else ".svg")
    if drawing is None:
        raise UsageError(f"--plot {plot} is neither .svg nor .html: name one of them")
    if models and folder:
        raise UsageError(f"--models {folder} and models by name are given: leave out one of them")
    with progress() as report:
        result = run_bench(
            models or (),
            board,
            folder=folder,
            toolchains=[name.value for name in dict.fromkeys(toolchain)],
            optimize=[name.value for name in dict.fromkeys(optimize)],
            samples=samples,
            progress=report,
        )
    if plot:
        write_atomically(plot, drawing(result))
    show(result, as_json)
    if not result.equal:
        raise typer.Exit(1)


def _load(model: Path, board: str, rounding: Rounding) -> Any:
    from minikin import api
    from minikin.boards import get_board

    get_board(board)  # a wrong name is said before a large model is read
    return api.load(model, rounding=rounding.value)
