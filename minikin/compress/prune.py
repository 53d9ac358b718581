"""Which weights go: masks by magnitude, over single weights, N:M runs, blocks or whole channels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

import numpy as np

from minikin.errors import UsageError

UNSTRUCTURED, CHANNELS = "unstructured", "channels"


@dataclass(frozen=True)
class Pattern:
    """What goes together.

    A weight is seen as a matrix [outputs, inputs]. `block`: so many outputs by so many inputs; `keep` of `of`: in every run
    of `of` inputs, `keep` stay; `channels`: a whole output with its bias.
    """

    block: tuple[int, int] = (1, 1)
    keep: int = 0
    of: int = 0
    channels: bool = False


def parse_pattern(text: str) -> Pattern:
    """ "unstructured", "channels", "2:4" (two of four stay) or "1x4" (blocks of one output by four inputs)."""
    if text == UNSTRUCTURED:
        return Pattern()
    if text == CHANNELS:
        return Pattern(channels=True)
    if (found := re.fullmatch(r"(\d+):(\d+)", text)) and 0 < int(found[1]) < int(found[2]):
        return Pattern(keep=int(found[1]), of=int(found[2]))
    if (found := re.fullmatch(r"(\d+)x(\d+)", text)) and int(found[1]) and int(found[2]):
        return Pattern(block=(int(found[1]), int(found[2])))
    raise ValueError(f"pattern {text!r} is not known: use unstructured, channels, N:M such as 2:4, or AxB such as 1x4")


def cubic_sparsity(start: float, end: float, progress: float) -> float:
    """end + (start - end) (1 - t)^3, t = `progress` in [0, 1].

    Source: Zhu and Gupta, "To prune, or not to prune" (2017), equation 1.
    """
    return end + (start - end) * (1.0 - min(max(progress, 0.0), 1.0)) ** 3


def magnitude_masks(
    weights: Mapping[str, tuple[np.ndarray, int | None]],
    sparsity: Mapping[str, float],
    pattern: Pattern,
    scope: str = "layer",
    score: str = "magnitude",
) -> dict[str, np.ndarray]:
    """Boolean masks, True where a weight stays: the groups of least mean square go until `sparsity` of them are gone.

    `weights` has arrays with their channel axis; `sparsity` a fraction for each. With `scope` "global" all layers share one
    threshold, and the fraction is of all their weights together; `score` "lamp" divides a group's mean square by the sum
    over the groups of its layer that are no smaller. Of equal groups the earlier ones go first. At least one group of each
    layer stays. Source of lamp: Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning" (2021).
    """
    if pattern.of:
        return {name: _runs(*weights[name], pattern, sparsity[name]) for name in sparsity}
    scores = {name: _scores(*weights[name], pattern) for name in sparsity}
    if scope == "global":
        counts = _global_counts(scores, sparsity, {n: weights[n][0].size / s.size for n, s in scores.items()}, score)
    else:
        counts = {n: min(round(sparsity[n] * s.size), s.size - 1) for n, s in scores.items()}
    return {name: _spread(~_least(scores[name], counts[name]), *weights[name], pattern) for name in sparsity}


def channel_masks(
    weights: Mapping[str, tuple[np.ndarray, int | None]],
    sparsity: Mapping[str, float],
    groups: Mapping[str, np.ndarray],
    fixed: Set[int],
    scope: str = "layer",
) -> dict[str, np.ndarray]:
    """Boolean masks over whole output channels, where channels of one group go together.

    `groups` has the group of each output channel of a weight, `fixed` the groups that stay. A group's score is the mean
    square of its weights; the least go, until `sparsity` of the groups of a layer, and of those tied to it, are gone (of
    several fractions the least), or with `scope` "global" of all layers. One group of each layer stays, and a layer tied to one
    that is not among `weights` is left alone.
    """
    rows = {name: np.square(as_matrix(w, axis).astype(np.float64)) for name, (w, axis) in weights.items()}
    sums: dict[int, float] = defaultdict(float)
    sizes: dict[int, int] = defaultdict(int)
    owners: dict[int, list[str]] = defaultdict(list)
    for name, matrix in rows.items():
        for group, row in zip(groups[name].tolist(), matrix, strict=True):
            sums[group], sizes[group] = sums[group] + float(row.sum()), sizes[group] + row.size
            owners[group].append(name)
    stay = set(fixed).union(*(groups[name].tolist() for name in groups if name not in weights))
    gone: set[int] = set()
    for pool in _pools(rows, groups, scope):
        members = {group for name in pool for group in groups[name].tolist()}
        free = sorted(members - stay, key=lambda g: (sums[g] / sizes[g], g))
        left = {name: len(set(groups[name].tolist())) for name in pool}
        count = round(min(sparsity[name] for name in pool) * len(members))
        for group in free:
            if count <= 0:
                break
            if all(left[name] > 1 for name in owners[group]):
                gone.add(group)
                count -= 1
                for name in set(owners[group]):
                    left[name] -= 1
    alive = {name: ~np.isin(groups[name], list(gone)) for name in weights}
    pattern = Pattern(channels=True)
    return {name: _spread(alive[name][:, None], *weights[name], pattern) for name in weights}


def _pools(weights: Iterable[str], groups: Mapping[str, np.ndarray], scope: str) -> list[list[str]]:
    """Weights that share groups, directly or by way of others; all of them for scope "global"."""
    pools: list[tuple[set[int], list[str]]] = []
    for name in weights:
        members = set(groups[name].tolist())
        touching = [pool for pool in pools if scope == "global" or pool[0] & members]
        pools = [pool for pool in pools if pool not in touching]
        pools.append((members.union(*(p[0] for p in touching)), [n for p in touching for n in p[1]] + [name]))
    return [names for _, names in pools]


def as_matrix(w: np.ndarray, axis: int | None) -> np.ndarray:
    """[outputs, inputs] of a weight whose outputs lie along `axis`."""
    return np.moveaxis(w, axis or 0, 0).reshape(w.shape[axis or 0], -1)


def from_matrix(matrix: np.ndarray, shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    moved = (shape[axis or 0], *(n for i, n in enumerate(shape) if i != (axis or 0)))
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(moved), 0, axis or 0))


def _blocks(matrix: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """[rows, a, columns, b], padded with zeros."""
    a, b = block
    padded = np.pad(matrix, ((0, -matrix.shape[0] % a), (0, -matrix.shape[1] % b)))
    return padded.reshape(padded.shape[0] // a, a, padded.shape[1] // b, b)


def _scores(w: np.ndarray, axis: int | None, pattern: Pattern) -> np.ndarray:
    """Mean square of each group, one row of groups for each row of blocks."""
    matrix = np.square(as_matrix(w, axis).astype(np.float64))
    if pattern.channels:
        return matrix.mean(axis=1, keepdims=True)
    sizes = _blocks(np.ones_like(matrix), pattern.block).sum(axis=(1, 3))
    return _blocks(matrix, pattern.block).sum(axis=(1, 3)) / sizes


def _spread(kept: np.ndarray, w: np.ndarray, axis: int | None, pattern: Pattern) -> np.ndarray:
    """The mask of the weight from that of its groups."""
    rows, columns = as_matrix(w, axis).shape
    a, b = (1, columns) if pattern.channels else pattern.block
    return from_matrix(np.repeat(np.repeat(kept, a, 0), b, 1)[:rows, :columns], w.shape, axis)


def _least(scores: np.ndarray, count: int) -> np.ndarray:
    """True at the `count` least scores, the earlier of equal ones."""
    flat = scores.reshape(-1)
    if count <= 0:
        return np.zeros(scores.shape, bool)
    threshold = np.partition(flat, count - 1)[count - 1]
    gone = flat < threshold
    gone[np.flatnonzero(flat == threshold)[: count - int(gone.sum())]] = True
    return gone.reshape(scores.shape)


def _global_counts(
    scores: Mapping[str, np.ndarray], sparsity: Mapping[str, float], sizes: Mapping[str, float], score: str
) -> dict[str, int]:
    """How many groups of each layer go, where all layers share one threshold; `sizes` are weights in a group."""
    if len(set(sparsity.values())) > 1:
        raise UsageError("global pruning has one sparsity for all layers: leave out `layers`, or use scope layer")
    ranks = []
    for values in scores.values():
        ordered = np.sort(values, axis=None)
        if score == "lamp":
            ordered = ordered / np.maximum(np.cumsum(ordered[::-1])[::-1], np.finfo(np.float64).tiny)
        ranks.append(ordered[:-1])  # the greatest stays
    owner = np.repeat(np.arange(len(ranks)), [len(part) for part in ranks])
    owner = owner[np.argsort(np.concatenate(ranks), kind="stable")]
    gone = np.cumsum(np.array(list(sizes.values()))[owner])
    wanted = next(iter(sparsity.values())) * sum(s.size * sizes[n] for n, s in scores.items())
    counts = np.bincount(owner[: np.searchsorted(gone, wanted + 0.5)], minlength=len(ranks))
    return dict(zip(scores, counts.tolist(), strict=True))


def _runs(w: np.ndarray, axis: int | None, pattern: Pattern, sparsity: float) -> np.ndarray:
    """N:M: in every run of inputs all but the greatest go; a `sparsity` below 1 - N/M keeps more of them."""
    matrix = np.abs(as_matrix(w, axis))
    rows, columns = matrix.shape
    keep = max(pattern.keep, round((1.0 - sparsity) * pattern.of))
    runs = _blocks(matrix, (1, pattern.of))[:, 0]
    order = np.argsort(-runs, axis=-1, kind="stable")
    kept = np.zeros(runs.shape, bool)
    np.put_along_axis(kept, order[..., :keep], True, axis=-1)
    return from_matrix(kept.reshape(rows, -1)[:, :columns], w.shape, axis)
