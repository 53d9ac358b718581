"""k-means of a layer's weights: the few values that they all take."""

from __future__ import annotations

import numpy as np

ROUNDS = 300


def kmeans(values: np.ndarray, clusters: int, start: str = "linear", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(centroids float64 ascending, index of each value's centroid) of values [n], at most `clusters` of them.

    Lloyd's method on sorted values, until no centroid moves. `start`: "linear" (evenly over the range), "density" (evenly
    over the values' ranks) or "kmeans++" (seeded, far values likelier). Centroids that no value is nearest to are left out.
    Source: Han, Mao, Dally, "Deep Compression" (2016), section 3.2; Arthur and Vassilvitskii, "k-means++" (2007).
    """
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    distinct = np.unique(ordered)
    if len(distinct) <= clusters:
        return distinct, np.searchsorted(distinct, values.astype(np.float64))
    centroids = _start(ordered, clusters, start, seed)
    for _ in range(ROUNDS):
        edges = np.concatenate([[0], np.searchsorted(ordered, _middles(centroids)), [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, centroids))
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    centroids = centroids[np.unique(np.searchsorted(_middles(centroids), values))]
    return centroids, np.searchsorted(_middles(centroids), values)


def _middles(centroids: np.ndarray) -> np.ndarray:
    return (centroids[:-1] + centroids[1:]) / 2


def _start(ordered: np.ndarray, clusters: int, start: str, seed: int) -> np.ndarray:
    if start == "linear":
        return np.linspace(ordered[0], ordered[-1], clusters)
    if start == "density":
        ranks = (np.arange(clusters) + 0.5) / clusters * len(ordered)
        return ordered[ranks.astype(int)]
    rng = np.random.default_rng(seed)
    chosen = [float(rng.choice(ordered))]
    distance = np.square(ordered - chosen[0])
    for _ in range(clusters - 1):
        chosen.append(float(rng.choice(ordered, p=distance / distance.sum())))
        distance = np.minimum(distance, np.square(ordered - chosen[-1]))
    return np.sort(np.array(chosen))
