"""The model under compression: its weights' structures, its activations' ranges, and what each step does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from minikin.compress.calibrate import calibrate, samples_of
from minikin.compress.channels import KeptChannels, channel_groups, cut_zero_channels, keep_channels
from minikin.compress.cluster import kmeans
from minikin.compress.lower import GraphModule, parameter_nodes
from minikin.compress.prune import channel_masks, cubic_sparsity, magnitude_masks
from minikin.compress.quantize import Scheme, dynamic_range, float16_weights, tie_activations, with_ranges
from minikin.compress.recipe import Cluster, Prune, Quantize, Recipe, Step
from minikin.compress.structure import (
    ActivationQuant,
    Codebook,
    FixedQuant,
    Structure,
    WeightQuant,
    peak_scale,
    raw_of,
    structure_of,
)
from minikin.data.dataset import Dataset
from minikin.errors import UsageError
from minikin.graph import Graph
from minikin.passes import optimize
from minikin.train.loop import fit

Hook = Callable[[int, int], None]
Penalty = Callable[[nn.Module], torch.Tensor]
MASK_STEPS = 32
"""A gradual pruning makes new masks so many steps apart, or 100 times in all where that is rarer."""
PENALTY_FLOOR = 1e-12


@dataclass(frozen=True)
class Slot:
    """A weight: its node, tensor, place in the module, channel axis, and structure."""

    node: str
    tensor: str
    layer: nn.Module
    attribute: str
    axis: int | None
    structure: Structure

    @property
    def raw(self) -> torch.Tensor:
        return raw_of(self.layer, self.attribute)

    def candidate(self) -> np.ndarray:
        """What pruning ranks: the parameter itself, so that a weight masked a moment ago may come back."""
        return _array(self.raw if self.structure.codebook is None else self.value())

    def value(self) -> torch.Tensor:
        """The weight as the layer uses it, without a gradient."""
        with torch.no_grad():
            return getattr(self.layer, self.attribute).detach()


class Compressor:
    """A float graph on its way through a recipe. Raises ModelError, UsageError."""

    def __init__(self, graph: Graph, dataset: Dataset, recipe: Recipe) -> None:
        self.dataset, self.recipe = dataset, recipe
        self.plan = recipe.quantize
        graph = optimize(graph)
        self.baseline = graph
        self.integers = self.plan is not None and self.plan.integers
        self.quantized = False
        self.cuts: list[KeptChannels] = []
        self._lower(graph)

    def _lower(self, graph: Graph) -> None:
        """Make the module of a float graph, and a structure for each weight that has none of it yet."""
        self.ties = tie_activations(graph, self.dataset.quant) if self.integers else None
        self.model = GraphModule(self.ties.graph if self.ties else graph)
        per_channel = self.plan is not None and self.plan.per_channel
        self.slots: list[Slot] = []
        for node, weights in parameter_nodes(self.model.graph).items():
            for tensor, axis in weights:
                layer, attribute = self.model.homes[tensor]
                module = self.model.layers[layer]
                structure = structure_of(module, attribute, axis if per_channel else None)
                self.slots.append(Slot(node, tensor, module, attribute, axis, structure))

    # Steps

    def apply(self, step: Step, **fitting: Any) -> str:
        """Do what the step says, and train. Gives the reason why training stopped early, or nothing."""
        hook, penalty = None, None
        if isinstance(step, Prune):
            hook, penalty = self._prune(step)
        elif isinstance(step, Cluster):
            self._cluster(step)
        elif isinstance(step, Quantize):
            self._quantize(step)
        stopped = self._train(step, hook, penalty, fitting) if step.epochs else ""
        if isinstance(step, Prune) and step.groups.channels:
            self._remove_channels()
        return stopped

    def _train(self, step: Step, hook: Hook | None, penalty: Penalty | None, fitting: dict[str, Any]) -> str:
        history = fit(
            self.model,
            self.dataset,
            before_step=hook,
            penalty=penalty,
            teacher=self._teacher(step),
            **self._options(step),
            **fitting,
        )
        if history.failed:
            raise UsageError(history.stopped)
        if hook:
            hook(1, 1)
        return history.stopped

    def deployed(self) -> Graph:
        """The graph as it stands: float32 until the quantization, integers after it."""
        graph = self.model.to_graph()
        if not self.quantized or self.plan is None:
            return graph
        quants = {s.tensor: q for s in self.slots if (q := s.structure.quantization(s.raw)) is not None}
        if self.ties is None:
            return float16_weights(graph) if self.plan.weights == "float16" else dynamic_range(graph, quants)
        ranges = {name: self._ranges[root].range() for name, root in self.ties.roots.items() if root in self._ranges}
        ranges |= {name: (0.0, 0.0) for name in self.ties.roots if name not in ranges}  # prescribed by their ops
        return with_ranges(graph, ranges, self._scheme, quants)

    def _prune(self, step: Prune) -> tuple[Hook | None, Penalty | None]:
        chosen = [s for s in self.slots if step.sparsity_of(s.node) > 0]
        if not chosen:
            raise UsageError(f"the step leaves every layer alone: its patterns match none of {self._layer_names()}")
        groups = channel_groups(self.model.graph) if step.groups.channels else None
        start = {s.tensor: _present(s) for s in chosen}
        zeros = {name: float((~mask).mean()) for name, mask in start.items()}

        def masks(progress: float) -> None:
            weights = {s.tensor: (np.where(start[s.tensor], s.candidate(), 0), s.axis) for s in chosen}
            wanted = {s.tensor: cubic_sparsity(zeros[s.tensor], step.sparsity_of(s.node), progress) for s in chosen}
            if step.scope == "global":
                overall = sum(z * start[name].size for name, z in zeros.items()) / sum(m.size for m in start.values())
                wanted = dict.fromkeys(wanted, cubic_sparsity(overall, step.sparsity or 0.0, progress))
            if groups is not None:
                made = channel_masks(weights, wanted, groups.groups, groups.fixed, step.scope)
            else:
                made = magnitude_masks(weights, wanted, step.groups, step.scope, step.score)
            for slot in chosen:
                self._mask(slot, made[slot.tensor] & start[slot.tensor], step.groups.channels)

        penalty = self._penalty(step, chosen) if step.penalty else None
        if not step.is_gradual:
            masks(1.0)
            return None, penalty
        masks(0.0)

        def before_step(number: int, steps: int) -> None:
            every = max(1, min(MASK_STEPS, steps // 100))
            ramp = max(1.0, step.ramp * steps)
            if number % every == 0 and number <= ramp + every:
                masks(number / ramp)

        return before_step, penalty

    def _remove_channels(self) -> None:
        """Channels that are all zero leave the module, where nothing else is attached that would have to follow."""
        if self.quantized or any(slot.structure.codebook is not None for slot in self.slots):
            return
        graph, kept = cut_zero_channels(self.model.to_graph())
        self.cuts.append(kept)
        self._lower(graph)
        for slot in self.slots:
            nonzero = _array(slot.value()) != 0
            if not nonzero.all():
                slot.structure.mask = torch.from_numpy(nonzero.astype(np.float32))

    def _cluster(self, step: Cluster) -> None:
        for number, slot in enumerate(self.slots):
            clusters = step.clusters_of(slot.node)
            if not clusters:
                continue
            w, structure = slot.value(), slot.structure
            limit = self._limit(slot)
            scale = structure.codebook.scale if structure.codebook is not None else self._scale(slot, w, limit)
            units = _array(w / scale)
            kept = units != 0
            zeros = not kept.all()
            centroids, index = np.zeros(1), np.zeros(units.shape, np.int64)
            if kept.any() and clusters - zeros > 0:
                seed = self.recipe.seed + number
                centroids, index[kept] = kmeans(units[kept], clusters - zeros, step.init, seed)
            if zeros:
                structure.mask = torch.from_numpy(kept.astype(np.float32))
            parts = (torch.from_numpy(centroids), torch.from_numpy(index), scale)
            structure.codebook = Codebook(*parts, limit)
            slot.raw.requires_grad_(False)

    def _quantize(self, step: Quantize) -> None:
        self.quantized = True
        if step.weights == "float16":
            return
        for slot in self.slots:
            w = slot.value()
            slot.structure.quant = WeightQuant(slot.structure.axis, self._limit(slot), step.scales, w)
        if self.ties is None:
            return
        count = min(step.samples, len(self.dataset.x_train))
        samples = samples_of(self.model.graph, _samples(self.model.graph, self.dataset.x_train[:count]))
        self._attach_ranges(self.ties.group_ranges(calibrate(self.model.to_graph(), samples, step.calibration, 99.99)))

    def _attach_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        assert self.ties is not None
        assert self.plan is not None
        free = {root: span for root, span in ranges.items() if root not in self.ties.fixed}
        self._ranges = {root: ActivationQuant(*span, self.plan.symmetric) for root, span in free.items()}
        modules: dict[str, nn.Module] = {**self._ranges, **{r: FixedQuant(q) for r, q in self.ties.fixed.items()}}
        self.model.quantize_activations({name: modules[root] for name, root in self.ties.roots.items()})

    # Parts

    @property
    def _scheme(self) -> Scheme:
        assert self.plan is not None
        return Scheme(
            per_channel=self.plan.per_channel,
            symmetric=self.plan.symmetric,
            bias_bits=self.plan.bias_bits,
            input_quant=self.dataset.quant,
        )

    def _limit(self, slot: Slot) -> int:
        return self.plan.limit_of(slot.node) if self.plan is not None and self.plan.weights != "float16" else 127

    def _scale(self, slot: Slot, w: torch.Tensor, limit: int) -> torch.Tensor:
        quant = slot.structure.quant
        return quant.scale(w).detach() if quant is not None else peak_scale(w, slot.structure.axis, limit)

    def _mask(self, slot: Slot, mask: np.ndarray, channels: bool) -> None:
        slot.structure.mask = torch.from_numpy(mask.astype(np.float32))
        bias = getattr(slot.layer, "bias", None)
        if channels and bias is not None:
            axes = tuple(i for i in range(mask.ndim) if i != slot.axis)
            alive = torch.from_numpy(mask.any(axis=axes).astype(np.float32))
            if alive.shape == bias.shape:
                structure_of(slot.layer, "bias", None).mask = alive

    def _penalty(self, step: Prune, chosen: list[Slot]) -> Penalty:
        """Strength times the L1 norm, or the sum over channels or blocks of sqrt(size) times the L2 norm."""
        a, b = step.groups.block
        grouped = step.groups.channels or a * b > 1

        def penalty(_: nn.Module) -> torch.Tensor:
            total = torch.zeros(())
            for slot in chosen:
                w = getattr(slot.layer, slot.attribute)
                total = total + (_group_norms(w, slot.axis, step) if grouped else w.abs().sum())
            return step.penalty * total

        return penalty

    def _teacher(self, step: Step) -> nn.Module | None:
        name = step.teacher or self.recipe.training.teacher
        return GraphModule(self.baseline).eval().requires_grad_(False) if name else None

    def _options(self, step: Step) -> dict[str, Any]:
        """The fields of FitOptions that the recipe sets."""
        names = [name for name in type(self.recipe.training).model_fields if name != "teacher"]
        merged = {name: getattr(self.recipe.training, name) for name in names}
        merged |= {name: value for name in names if (value := getattr(step, name)) is not None}
        options = {name: value for name, value in merged.items() if value is not None}
        if isinstance(step, Prune) and step.is_gradual:
            options["keep"] = "last"
        return {**options, "epochs": step.epochs, "seed": self.recipe.seed}

    def _layer_names(self) -> str:
        return ", ".join(slot.node for slot in self.slots)

    # State

    def state(self) -> dict[str, Any]:
        """Everything that the steps so far have made, of plain tensors and numbers."""
        return {
            "quantized": self.quantized,
            "cuts": [{name: torch.from_numpy(indices) for name, indices in kept.items()} for kept in self.cuts],
            "raw": [slot.raw.detach().clone() for slot in self.slots],
            "structures": [slot.structure.state() for slot in self.slots],
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "biases": [i for i, s in enumerate(self.slots) if _bias_structure(s) is not None],
            "ranges": {root: list(map(float, q.start)) for root, q in getattr(self, "_ranges", {}).items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        for kept in state["cuts"]:
            self.cuts.append({name: indices.numpy() for name, indices in kept.items()})
            self._lower(keep_channels(self.model.to_graph(), self.cuts[-1]))
        scales = self.plan.scales if self.plan is not None else "peak"
        for slot, held in zip(self.slots, state["structures"], strict=True):
            slot.structure.shaped_like(held, self._limit(slot), scales, slot.value())
            slot.raw.requires_grad_(slot.structure.codebook is None)
        for index in state["biases"]:
            layer = self.slots[index].layer
            structure_of(layer, "bias", None).mask = torch.ones_like(raw_of(layer, "bias").detach())
        self.quantized = state["quantized"]
        if state["ranges"]:
            self._attach_ranges({root: (lo, hi) for root, (lo, hi) in state["ranges"].items()})
        self.model.load_state_dict(state["model"])


def _bias_structure(slot: Slot) -> Structure | None:
    held = getattr(slot.layer, "parametrizations", {})
    return held["bias"][0] if "bias" in held else None  # type: ignore[index]


def _present(slot: Slot) -> np.ndarray:
    """True where no earlier step has zeroed the weight."""
    mask = slot.structure.mask
    return np.ones(tuple(slot.raw.shape), bool) if mask is None else _array(mask) != 0


def _group_norms(w: torch.Tensor, axis: int | None, step: Prune) -> torch.Tensor:
    matrix = torch.movedim(w, axis or 0, 0).flatten(1)
    rows, columns = matrix.shape
    a, b = (1, columns) if step.groups.channels else step.groups.block
    matrix = nn.functional.pad(matrix, (0, -columns % b, 0, -rows % a))
    blocks = matrix.reshape(matrix.shape[0] // a, a, matrix.shape[1] // b, b)
    return (a * b) ** 0.5 * torch.sqrt(blocks.square().sum(dim=(1, 3)) + PENALTY_FLOOR).sum()


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _samples(graph: Graph, x: np.ndarray) -> np.ndarray:
    """Samples of the data set in the shape of the graph's input, with its batch axis."""
    return np.asarray(x, np.float32).reshape(-1, *graph.input_tensors[0].shape)
