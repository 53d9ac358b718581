"""A whole training run: a network of the zoo, the loop, what came of it, a file."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minikin.data.dataset import Dataset
from minikin.display import Displayed, Table
from minikin.files import write_atomically
from minikin.graph import Graph
from minikin.train.evaluate import evaluate, predict, to_nchw
from minikin.train.loop import fit
from minikin.train.losses import loss_name, loss_of
from minikin.train.options import Epoch, FitOptions, History
from minikin.train.zoo import get_model

BEHIND = {"cross_entropy": lambda: nn.Softmax(1), "binary": nn.Sigmoid}  # the outputs of a classifier are probabilities


@dataclass(frozen=True)
class Trained(Displayed):
    """A trained network and how it came about; `network` gives logits, `module` what is deployed."""

    name: str
    data: str
    network: nn.Module = field(repr=False)
    module: nn.Module = field(repr=False)
    example: torch.Tensor = field(repr=False)
    options: FitOptions
    history: History
    test_loss: float
    test_accuracy: float
    seconds: float

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def graph(self) -> Graph:
        """float32, NHWC, batch 1."""
        from minikin.importers.torch import from_torch

        return from_torch(self.module, (self.example,), self.name)

    def save(self, path: Path) -> Path:
        """Write it as torch.export does, .pt2, whole or not at all."""
        from minikin.importers.torch import quiet

        stream = io.BytesIO()
        with quiet(), torch.no_grad():
            torch.export.save(torch.export.export(self.module, (self.example,)), stream)
        return write_atomically(path, stream.getvalue())

    def to_json(self) -> dict[str, Any]:
        best = self.history.epochs[self.history.best] if self.history.best >= 0 else None
        return {
            "model": self.name,
            "data": self.data,
            "parameters": self.parameters,
            "epochs": len(self.history.epochs),
            "kept_epoch": self.history.best + 1,
            "loss": best.loss if best else math.nan,
            "validation_loss": best.validation_loss if best else math.nan,
            "validation_accuracy": self.history.accuracy,
            "test_loss": self.test_loss,
            "test_accuracy": self.test_accuracy,
            "stopped": self.history.stopped,
            "seconds": self.seconds,
            "options": asdict(self.options),
        }

    def table(self) -> Table:
        found = self.to_json()
        table = Table("", "", title=f"{self.name} on {self.data}", caption=self.history.stopped)
        table.add_row("parameters", f"{self.parameters:,}")
        table.add_row("epochs", f"{found['epochs']}, the weights of epoch {found['kept_epoch']} are kept")
        for part in ("validation", "test"):
            accuracy = found[f"{part}_accuracy"]
            shown = "" if math.isnan(accuracy) else f"accuracy {accuracy:.2%}, "
            table.add_row(part, f"{shown}loss {found[f'{part}_loss']:.4g}")
        table.add_row("time", f"{self.seconds:.1f} s")
        return table


def train(
    name: str,
    dataset: Dataset,
    *,
    model_options: Mapping[str, float] | None = None,
    progress: Callable[[Epoch], None] | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    log_dir: Path | None = None,
    **options: Any,
) -> Trained:
    """The zoo's network `name`, trained on `dataset`; `options` are the fields of `FitOptions`, `model_options` the network's.

    The seed fixes the first weights too. A classifier gets a softmax behind it, or a sigmoid where the loss is binary. Raises
    UsageError, DataError.
    """
    chosen = FitOptions.of(options)
    start = time.monotonic()
    loss = loss_of(dataset, chosen.loss)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.seed)
        network = get_model(name, dataset.sample_shape, loss.outputs(dataset), **(model_options or {}))
    history = fit(
        network,
        dataset,
        progress=progress,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        log_dir=log_dir,
        **options,
    )
    behind = BEHIND.get(loss_name(dataset, chosen.loss))
    module = nn.Sequential(network, behind()) if behind else network
    test_loss, test_accuracy = math.nan, math.nan
    if len(dataset.x_test):
        outputs = torch.from_numpy(predict(network, dataset.x_test))
        test_loss = loss.batch(outputs, to_nchw(dataset.x_test), torch.from_numpy(dataset.y_test), 0.0).item()
        if loss.correct is not None:
            test_accuracy = evaluate(network, dataset.x_test, dataset.y_test)
    return Trained(
        name,
        dataset.name,
        network,
        module.eval(),
        to_nchw(dataset.x_train[:1]).contiguous(),
        chosen,
        history,
        test_loss,
        test_accuracy,
        time.monotonic() - start,
    )
