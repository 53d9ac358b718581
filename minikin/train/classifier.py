"""A trained classifier as a graph: a network of the zoo, the training loop, a softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch

from minikin.data.dataset import Dataset
from minikin.graph import Graph
from minikin.importers.torch import from_torch
from minikin.train.loop import fit
from minikin.train.options import Epoch
from minikin.train.zoo import get_model


def train_classifier(
    name: str,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    progress: Callable[[Epoch], None] | None = None,
) -> Graph:
    """The zoo's network `name`, trained on `dataset` by Adam, with a softmax behind it: float32, NHWC, batch 1.

    The seed fixes the first weights and the order of the samples. Raises UsageError, DataError.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_model(name, dataset.sample_shape, len(dataset.classes))
    fit(
        model,
        dataset,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        progress=progress,
    )
    height, width, channels = dataset.sample_shape
    classifier = torch.nn.Sequential(model, torch.nn.Softmax(1)).eval()
    return from_torch(classifier, (torch.zeros(1, channels, height, width),), name)
