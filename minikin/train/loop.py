"""The training loop, on Lightning Fabric: the same weights for the same seed, also after a kill."""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.utils.flop_counter import FlopCounterMode

from minikin.data.dataset import Dataset
from minikin.errors import DataError, MinikinError, UsageError
from minikin.train.augment import AUGMENTATIONS, augment, parse_augment
from minikin.train.checkpoint import load_checkpoint, run_id, save_checkpoint
from minikin.train.evaluate import evaluate, evaluation, predict, to_nchw
from minikin.train.losses import Loss, batch_loss, loss_of
from minikin.train.options import Epoch, FitOptions, History

__all__ = ["Epoch", "FitOptions", "History", "core_count", "evaluate", "fit", "predict", "to_nchw"]

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # here, so that it holds in each process from the start

SMALL_BATCH_FLOPS = 200e6  # about 20 ms of one core: below it threads wait for each other longer than they compute
ORDER, DROPOUT = range(2)  # streams of random numbers; each epoch begins its own, so that a resumed run has the same
Weights = dict[str, Tensor]
Report = Callable[[Epoch], None]


@dataclass(frozen=True)
class Job:
    """All that `fit` is told but the model: picklable where there are several devices."""

    dataset: Dataset
    options: FitOptions
    before_step: Callable[[int, int], None] | None
    penalty: Callable[[nn.Module], Tensor] | None
    teacher: nn.Module | None
    checkpoint_dir: Path | None
    resume: bool
    log_dir: Path | None


def fit(
    model: nn.Module,
    dataset: Dataset,
    *,
    before_step: Callable[[int, int], None] | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    teacher: nn.Module | None = None,
    progress: Report | None = None,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    log_dir: Path | None = None,
    **options: Any,
) -> History:
    """Train `model` (NCHW in; logits or values out) in place; `options` are the fields of `FitOptions`.

    `before_step(step, steps)` is called before each batch's forward pass, and `penalty(model)` is added to its loss; a
    `teacher` adds distillation. The seed fixes the order of the samples, augmentation and dropout; the first weights
    are the caller's. With `checkpoint_dir` the state is written there after each epoch, and with `resume` a run goes on
    from it and ends with the same weights. `log_dir` gets a TensorBoard log. A loss that is not finite stops the run:
    the weights kept so far stay.

    On several devices each process takes an equal share of every batch. The result is that of one process up to
    rounding, except where batch norm sees smaller batches or dropout draws other masks; a last batch that leaves a
    process fewer than 2 samples is left out. Raises UsageError for options out of range, DataError for labels or samples
    that cannot train.
    """
    chosen = FitOptions.of(options)
    job = Job(dataset, chosen, before_step, penalty, teacher, checkpoint_dir, resume, log_dir)
    _require_samples(job)
    _require_outputs(model, job)
    history, weights = _launch(model, job, progress or (lambda epoch: None))
    model.cpu().load_state_dict(weights)
    model.eval()
    return history


def core_count() -> int:
    """Cores that this process may really use: more torch threads than these slow a step down many times."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as stream:
            quota, period = stream.read().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return allowed


def _launch(model: nn.Module, job: Job, report: Report) -> tuple[History, Weights]:
    """`_work` in this process, or in as many as there are devices; then `report` is called here all the same."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    options = job.options
    if options.accelerator != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    try:
        strategy = DDPStrategy(start_method="spawn") if options.devices > 1 else "auto"
        fabric = Fabric(accelerator=options.accelerator, devices=options.devices, strategy=strategy)
    except Exception as error:  # no such accelerator, or fewer of it
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{options.devices} x {options.accelerator} cannot be had ({reason}): use cpu") from error
    if options.devices == 1:
        return _work(fabric, model, job, report)
    try:
        packed = pickle.dumps((model, job))  # as bytes, so that the processes do not share the weights' memory
    except Exception as error:
        raise UsageError(
            f"several devices need a model and hooks that can be pickled ({error}): use functions of a module"
        ) from error
    queue: Any = get_context(
        "spawn"
    ).SimpleQueue()  # epochs, then the pickled result: the launcher's own pipe is too small
    results: list[bytes] = []

    def read() -> None:
        for item in iter(queue.get, None):
            report(item) if isinstance(item, Epoch) else results.append(item)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        cast(Any, fabric).launch(_unpack, packed, queue)
    except (ProcessRaisedException, ProcessExitedException) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UsageError(f"a training process failed ({reason}): train with devices 1") from error
    finally:
        queue.put(None)
        reader.join()
    result = pickle.loads(results[0])
    if isinstance(result, MinikinError):
        raise result
    return result


def _unpack(fabric: Any, packed: bytes, queue: Any) -> None:
    """`_work` in a process of its own: pickled arguments in, pickled result or error out."""
    try:
        model, job = pickle.loads(packed)
        result: Any = _work(fabric, model, job, queue.put)
    except MinikinError as error:
        result = error
    if fabric.is_global_zero:
        queue.put(pickle.dumps(result))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # a thread of it that is left aborts a process that ends


def _work(fabric: Any, model: nn.Module, job: Job, report: Report) -> tuple[History, Weights]:
    """One process's part of the run; all of them return the same."""
    options, dataset = job.options, job.dataset
    loss = loss_of(dataset, options.loss)
    threads = 1 if options.devices > 1 else _thread_count(model, to_nchw(dataset.x_train[: options.batch_size]))
    with _deterministic(threads, options.accelerator), _channels_last(model), _channels_last(job.teacher):
        optimizer = _optimizer(model, options)
        wrapped, optimizer = fabric.setup(model, optimizer)
        trainer = _Trainer(fabric, model, wrapped, optimizer, job, loss)
        return trainer.run(report if fabric.is_global_zero else (lambda epoch: None))


class _Trainer:
    """The state of a run. `model` is the caller's module, `wrapped` is what Fabric made of it, and what is called."""

    def __init__(self, fabric: Any, model: nn.Module, wrapped: nn.Module, optimizer: Any, job: Job, loss: Loss) -> None:
        self.fabric, self.model, self.wrapped, self.optimizer = fabric, model, wrapped, optimizer
        self.job, self.options, self.loss = job, job.options, loss
        self.x = to_nchw(job.dataset.x_train).to(fabric.device)
        self.y = torch.from_numpy(job.dataset.y_train).to(fabric.device)
        self.teacher = None if job.teacher is None else job.teacher.to(fabric.device).eval()
        self.taught: Tensor | None = None
        """What the teacher says of each training sample, where the samples are always the same."""
        if self.teacher is not None and not self.options.augment:
            self.taught = torch.from_numpy(predict(self.teacher, job.dataset.x_train)).to(fabric.device)
        self.amounts = parse_augment(self.options.augment, (*AUGMENTATIONS, *job.dataset.augmentations))
        self.batches = len(_split(torch.arange(len(self.x)), self.options, fabric.world_size))
        self.steps = self.options.epochs * self.batches
        self.epochs: list[Epoch] = []
        self.best, self.kept = -1, _copy(model)

    def run(self, report: Report) -> tuple[History, Weights]:
        job, options = self.job, self.options
        run = run_id(options, job.dataset, self.steps)
        stopped, failed = "", False
        if job.checkpoint_dir and job.resume:
            self.restore(load_checkpoint(job.checkpoint_dir, run))
            stopped = self.early()
        with _log(job.log_dir if self.fabric.is_global_zero else None, len(self.epochs)) as log:
            while len(self.epochs) < options.epochs and not stopped:
                number = len(self.epochs)
                mean = self.train_epoch(number)
                if not math.isfinite(mean):
                    what = (
                        f"epoch {self.best + 1}'s weights are kept" if self.best >= 0 else "the first weights are kept"
                    )
                    rate = f"{options.learning_rate:g}"
                    stopped = f"loss became {mean} in epoch {number + 1}: {what}; lower learning_rate {rate}"
                    failed = True
                    break
                epoch = Epoch(number, mean, *self.fabric.broadcast(self.validate()))
                self.keep(epoch)
                log(epoch, options.rate(self.batches * number, self.steps))
                if job.checkpoint_dir and self.fabric.is_global_zero:
                    save_checkpoint(job.checkpoint_dir, run, self.state(), self.epochs)
                report(epoch)
                stopped = self.early()
        return History(tuple(self.epochs), self.best, stopped, failed), {k: v.cpu() for k, v in self.kept.items()}

    def train_epoch(self, number: int) -> float:
        """Mean loss; returns at the first batch whose loss is not finite, before it reaches the weights."""
        options, fabric = self.options, self.fabric
        self.wrapped.train()
        torch.manual_seed(_seed(options.seed, number, DROPOUT, fabric.global_rank))
        order = torch.Generator().manual_seed(_seed(options.seed, number, ORDER))
        total, count, step = 0.0, 0, number * self.batches
        for indices in _split(torch.randperm(len(self.x), generator=order), options, fabric.world_size):
            x, y = self.batch(indices, order)
            mine = slice(fabric.global_rank, None, fabric.world_size)
            x, y = x[mine], y[mine]
            for group in self.optimizer.param_groups:
                group["lr"] = options.rate(step, self.steps)
            if self.job.before_step:
                self.job.before_step(step, self.steps)
            loss = batch_loss(self.loss, options, self.wrapped(x), x, y, self.teach(x, indices[mine]))
            loss = loss * (len(x) * fabric.world_size / len(indices))  # DDP takes the mean of the processes' gradients
            if self.job.penalty:
                loss = loss + self.job.penalty(self.model)
            value = fabric.all_reduce(loss.detach(), reduce_op="mean").item()
            if not math.isfinite(value):
                return value
            self.optimizer.zero_grad()
            fabric.backward(loss)
            self.optimizer.step()
            total, count, step = total + value * len(indices), count + len(indices), step + 1
        return total / count

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sounds = {name: amount for name, amount in self.amounts.items() if name not in AUGMENTATIONS}
        if sounds:
            assert self.job.dataset.draw is not None
            rng = np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator)))
            x = to_nchw(self.job.dataset.draw(indices.numpy(), sounds, rng)).to(self.fabric.device)
        else:
            x = self.x[indices]
        images = {name: amount for name, amount in self.amounts.items() if name in AUGMENTATIONS}
        if images:
            x = augment(x.cpu(), images, generator).to(self.fabric.device)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self.y[indices]

    def teach(self, x: Tensor, indices: Tensor) -> Tensor | None:
        """The teacher's outputs for a batch."""
        if self.taught is not None or self.teacher is None:
            return None if self.taught is None else self.taught[indices]
        with torch.no_grad():
            return self.teacher(x)

    def validate(self) -> tuple[float, float]:
        """(mean loss, accuracy) on the validation part."""
        dataset = self.job.dataset
        outputs, x = torch.from_numpy(predict(self.model, dataset.x_validation)), to_nchw(dataset.x_validation)
        y = torch.from_numpy(dataset.y_validation)
        loss = self.loss.batch(outputs, x, y, 0.0).item()
        correct = self.loss.correct
        return loss, math.nan if correct is None else correct(outputs, y).double().mean().item()

    def keep(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if self.options.keep == "last" or self.best < 0 or epoch.validation_loss < self.least():
            self.best, self.kept = epoch.number, _copy(self.model)

    def least(self) -> float:
        return min(epoch.validation_loss for epoch in self.epochs[:-1])

    def early(self) -> str:
        if not self.epochs:
            return ""
        losses = [epoch.validation_loss for epoch in self.epochs]
        waited = len(losses) - 1 - int(np.argmin(losses))
        if not self.options.early_stop or waited < self.options.early_stop:
            return ""
        return f"no smaller validation loss in {waited} epochs since epoch {len(losses) - waited}"

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "kept": self.kept,
        }

    def restore(self, found: tuple[dict[str, Any], list[Epoch]] | None) -> None:
        if found is None:
            return
        state, self.epochs = found
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise DataError(
                f"{self.job.checkpoint_dir} has another network's checkpoint: give another folder"
            ) from error
        self.best, self.kept = state["best"], state["kept"]


def _optimizer(model: nn.Module, options: FitOptions) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    common = {"lr": options.learning_rate, "weight_decay": options.weight_decay, "fused": True}
    if options.optimizer in ("adam", "adamw"):
        return (torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW)(parameters, **common)
    momentum = 0.0 if options.optimizer == "sgd" else options.momentum
    return torch.optim.SGD(parameters, momentum=momentum, nesterov=options.optimizer == "nesterov", **common)


def _split(order: Tensor, options: FitOptions, world_size: int) -> list[Tensor]:
    """Batches; a last one that leaves a process a single sample goes, as batch norm has no variance of one."""
    batches = list(torch.split(order, options.batch_size))
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) < 2 * world_size else batches


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1)[0])


def _copy(model: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _thread_count(model: nn.Module, batch: Tensor) -> int:
    """One thread where a batch is little work, so that any machine gives the same weights; else the cores that may be used.

    Two threads on a busy machine were seen to train a 5 k network 40 times slower than one.
    """
    with evaluation(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    return 1 if counter.get_total_flops() < SMALL_BATCH_FLOPS else min(core_count(), torch.get_num_threads())


@contextmanager
def _deterministic(thread_count: int, accelerator: str) -> Iterator[None]:
    """Deterministic, on so many threads; the caller's generator and settings are put back."""
    threads, was = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=None if accelerator != "cpu" else []):
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(thread_count)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(was)


@contextmanager
def _channels_last(model: nn.Module | None) -> Iterator[None]:
    """The weights of its convolutions in the order that CPUs train 1.3 to 1.9 times faster; afterwards as they were."""
    if model is None:
        yield
        return
    cast(Any, model).to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        cast(Any, model).to(memory_format=torch.contiguous_format)


@contextmanager
def _log(folder: Path | None, first: int) -> Iterator[Callable[[Epoch, float], None]]:
    """Writes epochs to a TensorBoard log; what an earlier run logged from epoch `first` on is hidden."""
    if folder is None:
        yield lambda epoch, rate: None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter
    writer = SummaryWriter(str(folder), purge_step=first)

    def write(epoch: Epoch, rate: float) -> None:
        writer.add_scalar("loss/train", epoch.loss, epoch.number)
        writer.add_scalar("loss/validation", epoch.validation_loss, epoch.number)
        writer.add_scalar("learning_rate", rate, epoch.number)
        if math.isfinite(epoch.accuracy):
            writer.add_scalar("accuracy/validation", epoch.accuracy, epoch.number)

    try:
        yield write
    finally:
        writer.close()


def _require_samples(job: Job) -> None:
    dataset, name = job.dataset, job.options.loss
    for part in ("train", "validation"):
        x, y = getattr(dataset, f"x_{part}"), getattr(dataset, f"y_{part}")
        if not len(x):
            raise DataError(f"{dataset.name} has no {part} samples: give at least one")
        if not np.isfinite(x).all() or (y.dtype.kind == "f" and not np.isfinite(y).all()):
            raise DataError(f"{dataset.name} has NaN or infinite {part} samples: remove them")
        if dataset.classes and (y.min() < 0 or y.max() >= len(dataset.classes)):
            raise DataError(
                f"{dataset.name} has {part} labels {y.min()} .. {y.max()} but {len(dataset.classes)} classes: name all"
            )
    labelled = loss_of(dataset, name).correct is not None
    if labelled and not dataset.classes:
        raise UsageError(f"loss {name} needs classes, which {dataset.name} has none of: use mse")
    if name == "binary" and len(dataset.classes) != 2:
        raise UsageError(
            f"loss binary needs 2 classes and {dataset.name} has {len(dataset.classes)}: use cross_entropy"
        )
    if labelled and len(np.unique(dataset.y_train)) < 2:
        raise DataError(f"{dataset.name} has training samples of one class alone: give some of another")


def _require_outputs(model: nn.Module, job: Job) -> None:
    wanted = loss_of(job.dataset, job.options.loss).outputs(job.dataset)
    with evaluation(model), torch.no_grad():
        try:
            outputs = model(to_nchw(job.dataset.x_train[:1]))
        except RuntimeError as error:
            shape = "x".join(map(str, job.dataset.sample_shape))
            reason = str(error).splitlines()[0]
            raise UsageError(f"the network does not take {shape} samples ({reason}): make it for this shape") from error
    if outputs.shape[1:].numel() != wanted:
        raise UsageError(
            f"the network gives {outputs.shape[1:].numel()} values and the data needs {wanted}: change the last layer"
        )
