"""What a training run is told, and what it tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from minikin.errors import UsageError

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw")
SCHEDULES = ("constant", "step", "cosine")
LOSSES = ("cross_entropy", "binary", "mse", "reconstruction")
KEEPS = ("best", "last")
ACCELERATORS = ("cpu", "gpu", "auto")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How `fit` trains; all that decides the result besides the model, the data and the hooks.

    `momentum` is of the optimizers momentum and nesterov. `weight_decay` is added to the gradient, with adamw it is
    decoupled. The learning rate rises over `warmup_epochs`, then stays, is multiplied by `decay` every `decay_epochs`
    (step), or falls to zero (cosine). `loss` None is mse for a regression's data and cross_entropy otherwise. `augment`
    names augmentations with their amount, "shift=2" (see `minikin.train.augment`). `early_stop` is the number of epochs without
    a smaller validation loss after which training stops, 0 for never. `keep` is the weights that stay: "best", those with the
    least validation loss, which is less noisy than accuracy on few samples; or "last". `distill_weight` and
    `temperature` are a teacher's. With `devices` above 1 as many processes share each batch (DDP).
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    decay: float = 0.1
    decay_epochs: int = 10
    loss: str | None = None
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    early_stop: int = 0
    seed: int = 0
    keep: str = "best"
    distill_weight: float = 0.5
    temperature: float = 4.0
    accelerator: str = "cpu"
    devices: int = 1

    def __post_init__(self) -> None:
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "keep": KEEPS, "accelerator": ACCELERATORS}
        for name, known in (choices | ({"loss": LOSSES} if self.loss is not None else {})).items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)} is not known: use one of {', '.join(known)}")
        for name in ("epochs", "batch_size", "learning_rate", "decay", "decay_epochs", "temperature", "devices"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise UsageError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("weight_decay", "warmup_epochs", "early_stop"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise UsageError(f"{name} is {getattr(self, name)}: it must be at least 0")
        for name in ("momentum", "label_smoothing", "distill_weight"):
            if not 0 <= getattr(self, name) <= (1 if name == "distill_weight" else 0.999):
                raise UsageError(f"{name} is {getattr(self, name)}: it must be from 0 to 1")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From keyword arguments. Raises UsageError for one that is not known or out of range."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UsageError(f"training has no option {name}: it has {', '.join(known)}")
        return cls(**options)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, as `schedule` has it."""
        warmup = round(self.warmup_epochs * steps / self.epochs)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        if self.schedule == "step":
            return self.learning_rate * self.decay ** (step * self.epochs // steps // self.decay_epochs)
        return self.learning_rate


@dataclass(frozen=True)
class Epoch:
    """`loss` is the mean over the epoch's training batches; the other two are of the validation part.

    `accuracy` is a fraction, NaN where there are no classes to tell.
    """

    number: int
    loss: float
    validation_loss: float
    accuracy: float


@dataclass(frozen=True)
class History:
    """The epochs, the one whose weights the model now has (-1: the first weights), and why training stopped early, if it did.

    `failed` where the loss was no number.
    """

    epochs: tuple[Epoch, ...]
    best: int
    stopped: str = ""
    failed: bool = False

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the weights that were kept."""
        return self.epochs[self.best].accuracy if self.best >= 0 else math.nan
