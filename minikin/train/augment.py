"""Augmentation: a batch of training samples changed at random, as one tensor operation for all of them.

| name | amount | what it does |
|---|---|---|
| shift | pixels | moves the image up to so far, both ways; zeros come in (pad and crop) |
| rotate | degrees | turns it up to so far |
| scale | fraction | makes it up to so much larger or smaller |
| shear | fraction | slants it up to so much |
| elastic | pixels | bends it by a smooth field of this standard deviation (Simard et al. 2003) |
| flip | chance | mirrors it left to right |
| noise | deviation | adds Gaussian noise; for samples of any shape |
| cutout | pixels | blanks a square of this side (arXiv:1708.04552) |

A data set of sounds has its own besides, which change the sound before its features are taken: see `minikin.data.sound`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.nn import functional

from minikin.errors import UsageError

WARPS = ("rotate", "scale", "shear", "elastic")
AUGMENTATIONS = ("shift", *WARPS, "flip", "noise", "cutout")
ELASTIC_GRID = 4  # the field's own resolution, before it is made smooth


def parse_augment(names: tuple[str, ...], known: tuple[str, ...]) -> dict[str, float]:
    """("shift=2", "flip=0.5") -> {"shift": 2.0, "flip": 0.5}. Raises UsageError."""
    amounts: dict[str, float] = {}
    for text in names:
        name, _, value = text.partition("=")
        if name not in known:
            raise UsageError(f"augmentation {name} is not known for this data: use some of {', '.join(known)}")
        try:
            amounts[name] = float(value)
        except ValueError:
            amounts[name] = -1.0
        if not (0 < amounts[name] < math.inf):
            raise UsageError(f"augmentation {text} has no amount above 0: write {name}=2")
    return amounts


def augment(x: Tensor, amounts: Mapping[str, float], generator: Generator) -> Tensor:
    """The batch [n, C, H, W] (for noise: any shape) changed by each augmentation named, in the table's order."""
    if amounts.keys() - {"noise"} and x.ndim != 4:
        wrong = next(iter(amounts.keys() - {"noise"}))
        raise UsageError(f"augmentation {wrong} is of images, and these samples have {x.ndim - 1} axes: use noise")
    if "shift" in amounts:
        x = _shift(x, round(amounts["shift"]), generator)
    if any(name in amounts for name in WARPS):
        x = _warp(x, amounts, generator)
    for name, function in (("flip", _flip), ("noise", _noise), ("cutout", _cutout)):
        if name in amounts:
            x = function(x, amounts[name], generator)
    return x


def _uniform(shape: tuple[int, ...], limit: float, generator: Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * limit


def _shift(x: Tensor, limit: int, generator: Generator) -> Tensor:
    n, _, height, width = x.shape
    y0, x0 = torch.randint(0, 2 * limit + 1, (2, n, 1), generator=generator)
    padded = functional.pad(x, (limit,) * 4).permute(0, 2, 3, 1)
    rows, columns = y0 + torch.arange(height), x0 + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _warp(x: Tensor, amounts: Mapping[str, float], generator: Generator) -> Tensor:
    n, _, height, width = x.shape
    angle = _uniform((n,), math.radians(amounts.get("rotate", 0)), generator)
    zoom = 1 + _uniform((2, n), amounts.get("scale", 0), generator)
    slant = _uniform((n,), amounts.get("shear", 0), generator)
    cos, sin, aspect = torch.cos(angle), torch.sin(angle), height / width
    zero = torch.zeros(n)
    rows = [
        torch.stack([cos * zoom[0], (slant - sin) * zoom[0] * aspect, zero], -1),
        torch.stack([sin * zoom[1] / aspect, cos * zoom[1], zero], -1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), [n, 1, height, width], align_corners=False)
    if "elastic" in amounts:
        coarse = torch.randn((n, 2, ELASTIC_GRID, ELASTIC_GRID), generator=generator)
        smooth = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        pixels = amounts["elastic"] * 2 / torch.tensor([width, height])
        grid = grid + smooth.permute(0, 2, 3, 1) * pixels
    return functional.grid_sample(x, grid, align_corners=False)


def _flip(x: Tensor, chance: float, generator: Generator) -> Tensor:
    chosen = torch.rand((len(x), 1, 1, 1), generator=generator) < chance
    return torch.where(chosen, x.flip(-1), x)


def _noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    return x + torch.randn(x.shape, generator=generator) * deviation


def _cutout(x: Tensor, side: float, generator: Generator) -> Tensor:
    n, _, height, width = x.shape
    y0 = torch.randint(0, height, (n, 1, 1), generator=generator) - side / 2
    x0 = torch.randint(0, width, (n, 1, 1), generator=generator) - side / 2
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    inside = (rows >= y0) & (rows < y0 + side) & (columns >= x0) & (columns < x0 + side)
    return x * ~inside[:, None]
