"""Checkpoints: all that a run needs to go on after a kill as if there had been none."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from minikin.data.dataset import Dataset
from minikin.errors import DataError, UsageError
from minikin.files import write_atomically
from minikin.train.options import Epoch, FitOptions

FILE = "checkpoint.pt"


def run_id(options: FitOptions, dataset: Dataset, steps: int) -> str:
    """Tells whether a checkpoint is of this very run: a hash of options and data."""
    digest = hashlib.sha256(repr((options, steps, dataset.x_train.shape, dataset.classes)).encode())
    for array in (dataset.x_train[:64], dataset.y_train, dataset.x_validation[:64]):
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, run: str, state: dict[str, Any], epochs: list[Epoch]) -> None:
    """Write it, the old one replaced only by a whole one. Raises UsageError where the folder cannot be written."""
    stream = io.BytesIO()
    torch.save(state | {"run": run, "epochs": [astuple(epoch) for epoch in epochs]}, stream)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FILE, stream.getvalue())
    except OSError as error:
        raise UsageError(f"checkpoint folder {folder} cannot be written ({error.strerror}): choose another") from error


def load_checkpoint(folder: Path, run: str) -> tuple[dict[str, Any], list[Epoch]] | None:
    """(state, epochs so far), or None where there is none yet. Raises DataError for a damaged one or another run's."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        found, epochs = state["run"], [Epoch(*values) for values in state["epochs"]]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is no checkpoint that can be read: delete it and train anew") from error
    if found != run:
        raise DataError(f"{path} is of a run with other options or data: give the same ones, or another folder")
    return state, epochs
