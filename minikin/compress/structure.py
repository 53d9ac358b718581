"""What a compressed weight has: a mask, a codebook, a quantization, applied in that order whatever order they came in.

One parametrization holds all three, so that each keeps what the others made: a pruned weight stays zero when its layer
is clustered, and a codebook's values are codes of the quantized layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from minikin.graph import Quant

SPAN = 2.0**-12
"""A channel's scale is at least so much of its layer's greatest: an int32 bias has to fit beside it."""


class Structure(nn.Module):
    """weight -> its compressed value, of the same shape. `axis`: the channel axis, None for one scale in all."""

    mask: torch.Tensor | None

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("mask", None)
        self.codebook: Codebook | None = None
        self.quant: WeightQuant | None = None

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        if self.codebook is not None:
            w = self.codebook(rounded=self.quant is not None)
        if self.mask is not None:
            w = w * self.mask
        return self.quant(w) if self.quant is not None and self.codebook is None else w

    def quantization(self, w: torch.Tensor) -> Quant | None:
        """The scales of the weight that `forward` gives for w; None where it has no quantization."""
        if self.quant is None:
            return None
        masked = w if self.mask is None else w * self.mask
        scale = self.codebook.scale if self.codebook is not None else self.quant.scale(masked)
        scales = np.asarray(scale.detach().cpu().numpy(), np.float32).reshape(-1)
        return Quant(tuple(map(float, scales)), (0,) * len(scales), self.axis if len(scales) > 1 else None)

    def state(self) -> dict[str, Any]:
        """Everything that is not a fixed setting, for a checkpoint."""
        kinds = {"codebook": self.codebook is not None, "quant": self.quant is not None}
        return {"kinds": kinds, "state": {name: t.clone() for name, t in self.state_dict().items()}}

    def shaped_like(self, state: dict[str, Any], limit: int, scales: str, w: torch.Tensor) -> None:
        """Take over what `state` gave."""
        tensors = state["state"]
        if "mask" in tensors:
            self.mask = tensors["mask"].clone()
        if state["kinds"]["codebook"]:
            centroids, index, scale = (tensors[f"codebook.{name}"] for name in ("centroids", "index", "scale"))
            self.codebook = Codebook(centroids, index, scale, limit)
        if state["kinds"]["quant"]:
            self.quant = WeightQuant(self.axis, limit, scales, w)
        self.load_state_dict(tensors)


class Codebook(nn.Module):
    """w[i] = scale * centroids[index[i]]: a gradient reaches a centroid as the sum over its weights.

    Centroids are in units of the scale, so that rounded ones are codes of the whole layer, whatever its channels' scales.
    Source: Han, Mao, Dally, "Deep Compression" (2016), section 3.
    """

    index: torch.Tensor
    scale: torch.Tensor

    def __init__(self, centroids: torch.Tensor, index: torch.Tensor, scale: torch.Tensor, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.centroids = nn.Parameter(centroids.detach().clone().float())
        self.register_buffer("index", index.clone())
        self.register_buffer("scale", scale.detach().clone().float())

    def forward(self, rounded: bool) -> torch.Tensor:
        values = self.centroids
        if rounded:
            values = straight_through(values, torch.clamp(torch.round(values), -self.limit, self.limit))
        return _Gather.apply(values, self.index) * self.scale


class WeightQuant(nn.Module):
    """Symmetric codes in [-limit, limit], a scale for each index of `axis` (None: one in all).

    `scales`: "peak" (max|w| / limit), "least_error" (the one that fits w best, fixed) or "learned" (LSQ, which starts
    there). Gradients pass rounding straight through. Source of the learned scale: Esser et al., "Learned Step Size
    Quantization" (2020).
    """

    def __init__(self, axis: int | None, limit: int, scales: str, w: torch.Tensor) -> None:
        super().__init__()
        self.axis, self.limit = axis, limit
        self.log_scale: nn.Parameter | None = None
        if scales != "peak":
            self.log_scale = nn.Parameter(torch.log(self.best_scale(w.detach())), requires_grad=scales == "learned")

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        scale = self.scale(w)
        if self.log_scale is None:
            return straight_through(w, torch.round(w / scale) * scale)
        gradient = (w.numel() / scale.numel() * self.limit) ** -0.5
        scale = scale.detach() + gradient * (scale - scale.detach())
        u = w / scale
        inside = torch.clamp(u, -self.limit, self.limit)
        return straight_through(inside, torch.round(inside)) * scale

    def scale(self, w: torch.Tensor) -> torch.Tensor:
        """Broadcasts against w."""
        return torch.exp(self.log_scale) if self.log_scale is not None else peak_scale(w, self.axis, self.limit)

    def best_scale(self, w: torch.Tensor) -> torch.Tensor:
        """The clipped scale with the least squared error of the weights, channel by channel."""
        peak = peak_scale(w, self.axis, self.limit)
        axes = _others(w, self.axis)
        best, least = peak, torch.full_like(peak, torch.inf)
        for part in torch.linspace(1.0, 0.3, 29):
            scale = peak * part
            error = (torch.clamp(torch.round(w / scale), -self.limit, self.limit) * scale - w).square()
            error = error.sum(dim=axes, keepdim=True)
            best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
        return best


class ActivationQuant(nn.Module):
    """Fake int8 quantization of an activation over a learned range [lo, hi] that holds 0.

    The ends are lo0 * exp(a) and hi0 * exp(b): an end at 0 stays there, and a step of an optimizer is relative. Rounding
    passes gradients straight through; the ends get those of the residual inside and of what is clipped. Source: Esser et
    al. (2020); Bhalgat et al., "LSQ+" (2020); Jain et al., "Trained Quantization Thresholds" (2020).
    """

    start: torch.Tensor

    def __init__(self, lo: float, hi: float, symmetric: bool) -> None:
        super().__init__()
        self.symmetric = symmetric
        peak = max(-lo, hi)
        ends = (-peak, peak) if symmetric else (min(lo, 0.0), max(hi, 0.0))
        if ends[0] == ends[1]:
            ends = (-1.0, 1.0) if symmetric else (0.0, 1.0)
        self.register_buffer("start", torch.tensor(ends, dtype=torch.float32))
        self.logs = nn.Parameter(torch.zeros(2))

    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        ends = self.start * torch.exp(self.logs)
        return (-ends[1], ends[1]) if self.symmetric else (ends[0], ends[1])

    def range(self) -> tuple[float, float]:
        with torch.no_grad():
            lo, hi = self.ends()
        return float(lo), float(hi)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lo, hi = self.ends()
        scale = (hi / 127.0 if self.symmetric else (hi - lo) / 255.0).reshape(1)
        zero = torch.full_like(scale, 128.0) if self.symmetric else -lo / scale
        weight = (x.numel() * 255.0) ** -0.5  # of the ends' gradients: they sum over all elements
        # codes 0..255, as the op rounds a negative zero point up
        return torch.ops.aten._fake_quantize_learnable_per_tensor_affine(x, scale, zero, 0, 255, weight)


class FixedQuant(nn.Module):
    """Fake int8 quantization with a scale and zero point that the op prescribes."""

    def __init__(self, quant: Quant) -> None:
        super().__init__()
        self.quant = quant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale, zero = self.quant.scale, self.quant.zero_point
        clipped = torch.clamp(x / scale + zero, -128, 127)
        return (straight_through(clipped, torch.round(clipped)) - zero) * scale


class _Gather(torch.autograd.Function):
    """values[index]; the gradient is summed in double by index, in a fixed order."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(values)
        return values[index]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        sums = torch.bincount(index.reshape(-1), grads[0].reshape(-1).double(), ctx.count)
        return sums.to(grads[0].dtype), None


def straight_through(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """y, with the gradient of x."""
    return x + (y - x).detach()


def peak_scale(w: torch.Tensor, axis: int | None, limit: int) -> torch.Tensor:
    """max|w| / limit, by channel of `axis` or in all; no gradient passes. Channels of zeros take the layer's least."""
    peaks = w.detach().abs().amax(dim=_others(w, axis), keepdim=True)
    greatest = peaks.max()
    if not greatest > 0:
        return torch.full_like(peaks, 1.0 / limit)
    least = torch.where(peaks > 0, peaks, greatest).min()
    return torch.maximum(torch.where(peaks > 0, peaks, least), greatest * SPAN) / limit


def structure_of(layer: nn.Module, attribute: str, axis: int | None) -> Structure:
    """The structure of a parameter, attached if it has none."""
    if not parametrize.is_parametrized(layer, attribute):
        parametrize.register_parametrization(layer, attribute, Structure(axis), unsafe=True)
    found = getattr(layer.parametrizations, attribute)[0]
    assert isinstance(found, Structure)
    return found


def raw_of(layer: nn.Module, attribute: str) -> torch.Tensor:
    """The parameter itself, before any structure."""
    if parametrize.is_parametrized(layer, attribute):
        return getattr(layer.parametrizations, attribute).original
    return getattr(layer, attribute)


def _others(w: torch.Tensor, axis: int | None) -> tuple[int, ...]:
    return tuple(i for i in range(w.ndim) if i != axis)
