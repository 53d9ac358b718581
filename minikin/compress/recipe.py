"""A recipe: the steps of a compression, their parameters, the training of each, the seed. It is data, as TOML or as Python.

seed = 0

[training]                  # of every step that trains, where the step does not say otherwise
batch_size = 64

[[step]]
do = "prune"
sparsity = 0.9
epochs = 10

[[step]]
do = "cluster"
clusters = 16
epochs = 3

[[step]]
do = "quantize"
epochs = 3
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from minikin.compress.prune import Pattern, parse_pattern
from minikin.errors import UsageError

Value = TypeVar("Value")
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Clusters = Annotated[int, Field(ge=0, le=256)]
Codes = Literal["int8", "int7", "int6", "int5", "int4", "int3", "int2"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Training(Part):
    """How a step trains: the fields of `minikin.train.loop.FitOptions` that are set; the others keep their defaults.

    `teacher` "baseline": the model before the first step teaches it (Hinton's distillation).
    """

    learning_rate: float | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, gt=0)
    optimizer: str | None = None
    momentum: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float | None = Field(default=None, ge=0)
    schedule: str | None = None
    warmup_epochs: int | None = Field(default=None, ge=0)
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    loss: Literal["cross_entropy", "binary", "mse", "reconstruction"] | None = None
    augment: tuple[str, ...] | None = None
    keep: Literal["best", "last"] | None = None
    teacher: Literal["baseline"] | None = None
    distill_weight: float | None = Field(default=None, ge=0, le=1)
    temperature: float | None = Field(default=None, gt=0)


class Step(Training):
    """What all steps share. `epochs` of training with everything attached so far; 0 trains nothing."""

    do: Any
    epochs: int = Field(default=0, ge=0)

    @property
    def title(self) -> str:
        raise NotImplementedError


class Prune(Step):
    """Zeros by magnitude: see `minikin.compress.prune`.

    `pattern`: "unstructured", "channels" (whole outputs, which `shrink` then removes), "2:4" (of every four inputs two stay)
    or "1x4" (blocks of one output by four inputs). With `epochs` the sparsity rises along Zhu and Gupta's cubic over
    the first `ramp` of the training; ramp 0 prunes at once. `penalty` is added to the loss while it trains, times the L1 norm
    of the weights, or for channels and blocks the sum of the groups' L2 norms (group lasso). `layers` gives layers whose name
    matches a pattern another sparsity; 0 leaves them alone. `scope` "global" ranks the weights of all layers together, by
    `score`: "magnitude", or "lamp" (relative to the larger weights of the same layer).
    """

    do: Literal["prune"] = "prune"
    sparsity: Fraction | None = None
    layers: dict[str, Fraction] = {}
    scope: Literal["layer", "global"] = "layer"
    pattern: str = "unstructured"
    score: Literal["magnitude", "lamp"] = "magnitude"
    ramp: float = Field(default=0.7, ge=0, le=1)
    penalty: float = Field(default=0.0, ge=0)

    @field_validator("pattern")
    @classmethod
    def _known(cls, pattern: str) -> str:
        parse_pattern(pattern)
        return pattern

    @model_validator(mode="after")
    def _agrees(self) -> Prune:
        groups = self.groups
        if groups.of:
            implied = 1.0 - groups.keep / groups.of
            if self.sparsity is not None and abs(self.sparsity - implied) > 1e-9:
                raise ValueError(
                    f"pattern {self.pattern} makes sparsity {implied:g}, and sparsity is {self.sparsity:g}"
                )
            if self.scope == "global":
                raise ValueError(f"pattern {self.pattern} prunes every run alike: leave out scope global")
        elif self.sparsity is None and not self.layers:
            raise ValueError("sparsity is missing: give a fraction such as 0.9")
        if self.score == "lamp" and self.scope == "layer":
            raise ValueError("score lamp ranks layers against each other: give scope global, or leave it out")
        if self.scope == "global" and any(self.layers.values()):
            raise ValueError(
                "global pruning has one sparsity for all layers: in `layers` only 0 (leave alone) makes sense"
            )
        if self.is_gradual and self.keep == "best":
            raise ValueError("the best weights may be those before the sparsity was reached: give keep last, or ramp 0")
        if self.penalty and not self.epochs:
            raise ValueError(f"penalty {self.penalty:g} acts on training, and epochs is 0: give epochs")
        return self

    @property
    def is_gradual(self) -> bool:
        return bool(self.epochs and self.ramp)

    @property
    def groups(self) -> Pattern:
        return parse_pattern(self.pattern)

    def sparsity_of(self, node: str) -> float:
        default = 1.0 - self.groups.keep / self.groups.of if self.groups.of else self.sparsity or 0.0
        return first_match(self.layers, node, default)

    @property
    def title(self) -> str:
        if self.groups.of:
            return f"prune {self.pattern}"
        amount = f"{100 * self.sparsity:g}%" if self.sparsity is not None else "by layer"
        return f"prune {amount}" + ("" if self.pattern == "unstructured" else f" {self.pattern}")


class Cluster(Step):
    """At most `clusters` values in each layer, zero counted where the layer is sparse: see `minikin.compress.cluster`."""

    do: Literal["cluster"] = "cluster"
    clusters: Clusters = 16
    layers: dict[str, Clusters] = {}
    init: Literal["linear", "density", "kmeans++"] = "linear"

    def clusters_of(self, node: str) -> int:
        return first_match(self.layers, node, self.clusters)

    @property
    def title(self) -> str:
        return f"cluster {self.clusters}"


class Quantize(Step):
    """Integers, or smaller weights.

    `weights`: "int8" down to "int2" (codes kept as int8 numbers) with int8 activations; "dynamic" (int8 weights, float32
    activations that each layer quantizes by its own range) or "float16" (weights rounded to it). `per_channel` false: one scale
    for each layer. `symmetric`: activations with zero point 0. `calibration` on `samples` training samples chooses the ranges;
    with `epochs`, or a later step that trains, they are learned (quantization-aware training). `scales` of the weights: "peak"
    (max|w| / largest code, at all times), "least_error" (clipped where the squared error is least, then fixed) or "learned"
    (from there on). `bias_bits`: biases of so many significant bits at most, which the coded storage format likes.
    """

    do: Literal["quantize"] = "quantize"
    weights: Codes | Literal["dynamic", "float16"] = "int8"
    layers: dict[str, Codes] = {}
    per_channel: bool = True
    symmetric: bool = False
    calibration: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    samples: int = Field(default=256, gt=0)
    scales: Literal["peak", "least_error", "learned"] = "peak"
    bias_bits: int = Field(default=32, ge=2, le=32)

    @model_validator(mode="after")
    def _agrees(self) -> Quantize:
        if not self.integers and (self.symmetric or self.layers or self.bias_bits < 32):
            raise ValueError(f"weights {self.weights} leave the rest float32: leave out symmetric, layers, bias_bits")
        return self

    @property
    def integers(self) -> bool:
        return self.weights not in ("dynamic", "float16")

    def limit_of(self, node: str) -> int:
        """The largest code of a layer's weights."""
        weights = first_match(self.layers, node, self.weights)
        return 2 ** (int(weights[3:]) - 1) - 1 if weights.startswith("int") else 127

    @property
    def title(self) -> str:
        return self.weights


class Finetune(Step):
    """Training alone, with everything that is attached."""

    do: Literal["finetune"] = "finetune"
    epochs: int = Field(..., gt=0)

    @property
    def title(self) -> str:
        return f"fine-tune, {self.epochs}"


class Distill(Finetune):
    """Fine-tuning with the model before the first step as teacher."""

    do: Literal["distill"] = "distill"  # type: ignore[assignment]
    teacher: Literal["baseline"] | None = "baseline"

    @property
    def title(self) -> str:
        return f"distill, {self.epochs}"


AnyStep = Annotated[Prune | Cluster | Quantize | Finetune | Distill, Field(discriminator="do")]


class Recipe(Part):
    """The steps in the order in which they train; what they make is always applied as mask, codebook, quantization."""

    seed: int = Field(default=0, ge=0)
    training: Training = Training()
    steps: tuple[AnyStep, ...]

    @model_validator(mode="before")
    @classmethod
    def _from_toml(cls, values: Any) -> Any:
        """TOML's [[step]]."""
        if isinstance(values, Mapping) and "step" in values and "steps" not in values:
            return {("steps" if key == "step" else key): value for key, value in values.items()}
        return values

    @model_validator(mode="after")
    def _agree(self) -> Recipe:
        if not self.steps:
            raise ValueError("there are no steps: give at least one")
        quantizes = [i for i, step in enumerate(self.steps) if isinstance(step, Quantize)]
        if len(quantizes) > 1:
            raise ValueError(f"steps {quantizes[0] + 1} and {quantizes[1] + 1} both quantize: leave one of them out")
        for number, step in enumerate(self.steps):
            for earlier, other in enumerate(self.steps[:number]):
                _require_room(earlier, other, number, step)
        return self

    @property
    def quantize(self) -> Quantize | None:
        return next((step for step in self.steps if isinstance(step, Quantize)), None)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """From a TOML file. Raises UsageError that names the file, the step and what is wrong."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}: give a recipe in TOML") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no TOML ({error}): see docs/compression.md for a recipe") from error
        return parse_recipe(values, str(path))

    def to_toml(self) -> str:
        """What `load` reads back as the same recipe."""
        values = self.model_dump(exclude_defaults=True, mode="json")
        lines = [f"seed = {self.seed}"]
        if training := _set(values.get("training", {})):
            lines += ["", "[training]", *_toml_lines(training)]
        for step in self.steps:
            fields = {"do": step.do} | _set(step.model_dump(exclude_defaults=True, exclude={"do"}, mode="json"))
            lines += ["", "[[step]]", *_toml_lines(fields)]
        return "\n".join(lines) + "\n"


def parse_recipe(values: Any, name: str = "the recipe") -> Recipe:
    """A Recipe from TOML's values, or from a list of steps. Raises UsageError."""
    if isinstance(values, Recipe):
        return values
    if isinstance(values, Iterable) and not isinstance(values, Mapping | str):
        values = {"steps": list(values)}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{name}{_sentence(error, values)}") from error


def first_match(layers: Mapping[str, Value], node: str, default: Value) -> Value:
    """The value of the first pattern that the node's name matches."""
    return next((value for pattern, value in layers.items() if fnmatchcase(node, pattern)), default)


def _require_room(earlier: int, other: Step, number: int, step: Step) -> None:
    """Refuse a step that could do nothing after another."""
    where = f"steps {earlier + 1} and {number + 1} contradict each other"
    if isinstance(step, Prune) and isinstance(other, Prune) and step.pattern == other.pattern:
        falls = not step.layers and not other.layers and (step.sparsity or 0) < (other.sparsity or 0)
        if falls:
            raise ValueError(
                f"{where}: sparsity {other.sparsity} comes before {step.sparsity}, which then prunes nothing"
            )
    if isinstance(step, Quantize | Cluster) and isinstance(other, Quantize | Cluster):
        cluster, quantize = (step, other) if isinstance(step, Cluster) else (other, step)
        if (
            isinstance(cluster, Cluster)
            and isinstance(quantize, Quantize)
            and quantize.integers
            and not quantize.layers
        ):
            codes = 2 * quantize.limit_of("") + 1
            most = max((cluster.clusters, *cluster.layers.values()))
            if most > codes:
                raise ValueError(f"{where}: {most} clusters do not fit the {codes} codes of {quantize.weights}")
    if isinstance(step, Cluster) and isinstance(other, Cluster) and not step.layers and step.clusters > other.clusters:
        raise ValueError(f"{where}: {step.clusters} clusters come after {other.clusters}: give fewer, or one step")


def _sentence(error: ValidationError, values: Any) -> str:
    """Where the first mistake is and what it is: ", step 2 (prune): sparsity is 1.4: ..."."""
    first = error.errors()[0]
    place, message = list(first["loc"]), first["msg"].removeprefix("Value error, ")
    where, kind = "", None
    if len(place) > 1 and place[0] == "steps":
        number = int(place[1])
        step = (values.get("step") or values.get("steps") or ())[number]
        kind = step.get("do") if isinstance(step, Mapping) else getattr(step, "do", None)
        where = f", step {number + 1}" + (f" ({kind})" if kind else "")
        place = [p for p in place[2:] if p != kind]
    if first["type"] == "union_tag_invalid":
        return f"{where}: no step is called {kind}: use {', '.join(_KINDS)}"
    if first["type"] == "union_tag_not_found":
        return f"{where} does not say what to do: give do = one of {', '.join(_KINDS)}"
    name = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        return f"{where}: {name} is no parameter: remove it, or see docs/compression.md"
    if first["type"] == "missing":
        return f"{where}: {name} is missing: give it"
    given = "" if isinstance(first["input"], Mapping | BaseModel) else f" is {json.dumps(first['input'], default=str)}"
    return f"{where}: {name}{given}: {message}" if name else f"{where}: {message}"


_KINDS = ("prune", "cluster", "quantize", "finetune", "distill")


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != {}}


def _toml_lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's too; a table is not."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
