"""The one form of a data set, and the seeded split that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from minikin.errors import DataError
from minikin.graph import Quant


@dataclass(frozen=True)
class Dataset:
    """Samples float32 [count, H, W, C] or [count, features], in three parts: to train, to validate, to test.

    Labels are int64 [count], named by `classes`; or, with no classes, targets float32 [count, values] of a regression.
    `draw(indices, amounts, rng)`, where there is one, gives training samples made anew with the augmentations named in
    `augmentations`: for sounds, whose augmentation comes before their features. `quant`, where there is one, is the int8 scale
    and zero point that a device's samples come in: an integer network takes it for its input's.
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_validation: np.ndarray = field(repr=False)
    y_validation: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    draw: Callable[[np.ndarray, Mapping[str, float], np.random.Generator], np.ndarray] | None = field(
        default=None, repr=False
    )
    augmentations: tuple[str, ...] = ()
    quant: Quant | None = None

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if len(x) != len(y):
                raise DataError(f"{self.name} has {len(x)} {part} samples but {len(y)} labels: they must be as many")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.x_train.shape[1:]

    def with_test(self, x: np.ndarray, y: np.ndarray) -> Dataset:
        """The same with another test part."""
        return replace(self, x_test=x, y_test=y)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.sample_shape))
        what = f"{len(self.classes)} classes" if self.classes else "regression"
        counts = f"{len(self.x_train):,} / {len(self.x_validation):,} / {len(self.x_test):,}"
        return f"{self.name}: {shape}, {what}, {counts} to train / validate / test"


def stratified_split(y: np.ndarray, parts: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Indices of len(parts) + 1 disjoint parts, each holding that share of every class; the last takes the rest.

    The order inside a part is shuffled too; the same seed gives the same split.
    """
    generator = np.random.default_rng(seed)
    pieces: list[list[np.ndarray]] = [[] for _ in range(len(parts) + 1)]
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        cuts = np.rint(np.cumsum(parts) * len(members)).astype(int)
        for piece, indices in zip(pieces, np.split(members, cuts), strict=True):
            piece.append(indices)
    return [generator.permutation(np.concatenate(piece)) for piece in pieces]


def group_split(groups: Sequence[str], parts: tuple[float, ...], seed: int) -> list[np.ndarray]:
    """Indices of len(parts) + 1 disjoint parts of about those shares; all samples of a group (a speaker) are in one part.

    The same seed and groups give the same split, whatever the order of the samples.
    """
    names, member, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    middle = (np.cumsum(counts[order]) - counts[order] / 2) / len(member)  # of the group, in the row of all samples
    part_of = np.empty(len(names), np.int64)
    part_of[order] = np.searchsorted(np.cumsum(parts), middle)
    return [np.flatnonzero(part_of[member] == part) for part in range(len(parts) + 1)]
