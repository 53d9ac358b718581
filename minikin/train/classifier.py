"""A trained network as a graph."""

from __future__ import annotations

from typing import Any

from minikin.data.dataset import Dataset
from minikin.graph import Graph
from minikin.train.run import train


def train_classifier(name: str, dataset: Dataset, **options: Any) -> Graph:
    """The zoo's network `name`, trained on `dataset`, with a softmax behind it: float32, NHWC, batch 1.

    `options` are those of `minikin.train.run.train`. Raises UsageError, DataError.
    """
    return train(name, dataset, **options).graph()
