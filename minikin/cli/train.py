"""The verb `train`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from minikin.errors import UsageError


def train(
    model: Annotated[str, typer.Option("--model", "-m", help="A network of the zoo.", show_default=False)],
    data: Annotated[
        str, typer.Option("--data", "-d", help="A data set's name, or a .npz, .csv or folder.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .pt2 to write.", show_default=False)],
    epochs: Annotated[int, typer.Option("--epochs")] = 20,
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, momentum, nesterov, adam or adamw.")] = "adam",
    learning_rate: Annotated[float, typer.Option("--learning-rate")] = 1e-3,
    momentum: Annotated[float, typer.Option("--momentum", help="Of momentum and nesterov.")] = 0.9,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 32,
    schedule: Annotated[
        str, typer.Option("--schedule", help="Of the learning rate: constant, step or cosine.")
    ] = "cosine",
    warmup_epochs: Annotated[float, typer.Option("--warmup-epochs")] = 0.0,
    decay: Annotated[float, typer.Option("--decay", help="Factor of the step schedule.")] = 0.1,
    decay_epochs: Annotated[int, typer.Option("--decay-epochs", help="Epochs between two of its steps.")] = 10,
    loss: Annotated[
        str | None,
        typer.Option("--loss", help="cross_entropy, binary, mse or reconstruction; by the data if not given."),
    ] = None,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing")] = 0.0,
    augment: Annotated[
        str,
        typer.Option("--augment", help="With amounts: shift=2,rotate=10; for sounds time_shift=100,background=0.3."),
    ] = "",
    dropout: Annotated[float, typer.Option("--dropout")] = 0.0,
    early_stop: Annotated[
        int, typer.Option("--early-stop", help="Epochs without a smaller validation loss; 0: never.")
    ] = 0,
    keep: Annotated[
        str, typer.Option("--keep", help="Weights of the best epoch on validation data, or the last.")
    ] = "best",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights, order, augmentation and dropout.")] = 0,
    model_option: Annotated[
        list[str] | None, typer.Option("--model-option", help="Of the network: width=0.5, hidden=40.")
    ] = None,
    data_option: Annotated[
        list[str] | None, typer.Option("--data-option", help="Of the data: target=price, window=50, seed=3.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch data that is missing.")] = False,
    checkpoint_dir: Annotated[
        Path | None, typer.Option("--checkpoint-dir", help="Kept at the end; without it, beside the output until then.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, if there is one.")] = False,
    log_dir: Annotated[Path | None, typer.Option("--log-dir", help="For a TensorBoard log.")] = None,
    devices: Annotated[int, typer.Option("--devices", help="Processes that share each batch.")] = 1,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu or auto.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Train a network of the zoo, and write it as .pt2, which every other verb reads."""
    from minikin.cli.show import out, progress, show
    from minikin.data import load_dataset
    from minikin.train.run import train as run_training

    if output.suffix != ".pt2":
        raise UsageError(f"{output} must end in .pt2: that is the file that is written")
    if not output.parent.is_dir():
        raise UsageError(f"folder {output.parent} does not exist: make it, or write elsewhere")
    of_model = {name: _number(name, value) for name, value in _pairs(model_option or [])}
    of_data: dict[str, Any] = {name: _plain(value) for name, value in _pairs(data_option or [])}
    dataset = load_dataset(data, **of_data, **({"download": True} if download else {}))
    checkpoints = checkpoint_dir or output.with_suffix(".checkpoint")
    with progress() as report:
        trained = run_training(
            model,
            dataset,
            model_options=of_model | ({"dropout": dropout} if dropout else {}),
            progress=lambda epoch: report("training", epoch.number + 1, epochs),
            checkpoint_dir=checkpoints,
            resume=resume,
            log_dir=log_dir,
            epochs=epochs,
            optimizer=optimizer,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            batch_size=batch_size,
            schedule=schedule,
            warmup_epochs=warmup_epochs,
            decay=decay,
            decay_epochs=decay_epochs,
            loss=loss,
            label_smoothing=label_smoothing,
            augment=tuple(filter(None, augment.split(","))),
            early_stop=early_stop,
            keep=keep,
            seed=seed,
            devices=devices,
            accelerator=accelerator,
        )
    written = trained.history.best >= 0
    if written:
        trained.save(output)
    if checkpoint_dir is None:
        shutil.rmtree(checkpoints, ignore_errors=True)
    show(trained, as_json, **trained.to_json(), path=str(output) if written else None)
    if not as_json and written:
        out.print(f"\n{output}: {output.stat().st_size:,} bytes", soft_wrap=True)
    if trained.history.failed:
        raise typer.Exit(1)


def _pairs(options: list[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for option in options:
        name, _, value = option.partition("=")
        if not name or not value:
            raise UsageError(f"option {option} has no value: write NAME=VALUE")
        pairs.append((name, value))
    return pairs


def _number(name: str, value: str) -> float:
    try:
        return _as_number(value)
    except ValueError as error:
        raise UsageError(f"{name} is {value}: it must be a number") from error


def _plain(value: str) -> float | str:
    try:
        return _as_number(value)
    except ValueError:
        return value


def _as_number(value: str) -> int | float:
    return int(value) if value.lstrip("-").isdigit() else float(value)
