"""train/loop: optimizers, schedules, losses, hooks, augmentation; resuming and several devices give the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minikin.data import Dataset, digits
from minikin.errors import DataError, UsageError
from minikin.train.augment import AUGMENTATIONS, augment
from minikin.train.checkpoint import FILE
from minikin.train.loop import Epoch, FitOptions, evaluate, fit, predict
from minikin.train.zoo import get_model


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A third of the digits."""
    whole = digits()
    return replace(whole, x_train=whole.x_train[:400], y_train=whole.y_train[:400])


def fresh(name: str = "mlp", outputs: int = 10, shape: tuple[int, ...] = (8, 8, 1), **options: float) -> nn.Module:
    torch.manual_seed(0)
    return get_model(name, shape, outputs, **options)


def weights(model: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy()


# Optimizers and schedules


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("sgd", 0.5), ("momentum", 0.1), ("nesterov", 0.1), ("adam", 0.01), ("adamw", 0.01)]
)
def test_each_optimizer_learns(optimizer: str, rate: float, data: Dataset) -> None:
    model = fresh()
    fit(model, data, epochs=10, optimizer=optimizer, learning_rate=rate)
    assert evaluate(model, data.x_test, data.y_test) > 0.85


def test_weight_decay_shrinks(data: Dataset) -> None:
    def norm(**options: Any) -> float:
        model = fresh()
        fit(model, data, epochs=4, **options)
        return float(np.linalg.norm(weights(model)))

    assert norm(weight_decay=0.05) < 0.9 * norm()
    assert norm(optimizer="adamw", weight_decay=1.0) < norm(optimizer="adamw")


def test_schedules() -> None:
    def rates(**options: Any) -> list[float]:
        chosen = FitOptions(epochs=4, learning_rate=1.0, **options)
        return [round(chosen.rate(step, 8), 6) for step in range(8)]

    assert rates(schedule="constant") == [1.0] * 8
    assert rates(schedule="step", decay=0.5, decay_epochs=1) == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert rates(schedule="constant", warmup_epochs=1) == [0.5, *[1.0] * 7]
    cosine = rates(schedule="cosine")
    assert cosine[0] == 1.0
    assert cosine[4] == 0.5
    assert cosine == sorted(cosine, reverse=True)
    assert rates(schedule="cosine", warmup_epochs=2)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_momentum_follows_its_formula(data: Dataset) -> None:
    """Two steps by hand: v = m v + g, w -= rate v."""
    few = replace(data, x_train=data.x_train[:8], y_train=data.y_train[:8])
    model, reference = fresh("linear"), fresh("linear")
    fit(model, few, epochs=2, batch_size=8, optimizer="momentum", momentum=0.5, schedule="constant", keep="last")
    x, y = torch.from_numpy(few.x_train).flatten(1), torch.from_numpy(few.y_train)
    w, velocity = next(reference.parameters()), 0
    bias = list(reference.parameters())[1]
    for _ in range(2):
        gradient, of_bias = torch.autograd.grad(nn.functional.cross_entropy(x @ w.T + bias, y), (w, bias))
        velocity, of_bias_velocity = 0.5 * velocity + gradient, of_bias
        w = (w - 1e-3 * velocity).detach().requires_grad_()
        bias = (bias - 1e-3 * of_bias_velocity).detach().requires_grad_()
    np.testing.assert_allclose(next(model.parameters()).detach(), w.detach(), rtol=1e-4, atol=1e-7)


# Losses


def plane(count: int = 300) -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)).astype(np.float32)
    y = (x @ np.float32([[1, 2], [0, -1], [3, 0.5]]) + np.float32([0.5, -1])).astype(np.float32)
    return Dataset("plane", x[:200], y[:200], x[200:], y[200:], x[200:], y[200:], ())


def test_regression_finds_the_plane() -> None:
    data, model = plane(), fresh("linear", 2, (3,))
    history = fit(model, data, epochs=60, learning_rate=0.05)
    assert history.epochs[-1].validation_loss < 1e-4
    assert math.isnan(history.accuracy)
    weight, bias = (p.detach().numpy() for p in model.parameters())
    np.testing.assert_allclose(weight, [[1, 0, 3], [2, -1, 0.5]], atol=0.02)
    np.testing.assert_allclose(bias, [0.5, -1], atol=0.02)
    np.testing.assert_allclose(predict(model, data.x_test), data.y_test, atol=0.05)


def test_one_value_regresses_without_an_axis() -> None:
    data = plane()
    flat = replace(data, y_train=data.y_train[:, 0], y_validation=data.y_validation[:, 0], y_test=data.y_test[:, 0])
    history = fit(fresh("linear", 1, (3,)), flat, epochs=60, learning_rate=0.05)
    assert history.epochs[-1].validation_loss < 1e-3


def test_binary_logistic_regression() -> None:
    data = plane()
    labels = {
        f"y_{part}": (getattr(data, f"y_{part}")[:, 0] > 0).astype(np.int64) for part in ("train", "validation", "test")
    }
    two = replace(data, classes=("below", "above"), **labels)
    model = fresh("logistic", 1, (3,))
    history = fit(model, two, epochs=40, learning_rate=0.1, loss="binary")
    assert history.accuracy > 0.97
    assert evaluate(model, two.x_validation, two.y_validation) == history.accuracy
    with pytest.raises(UsageError, match="gives 2 values and the data needs 1"):
        fit(fresh("logistic", 2, (3,)), two, loss="binary")
    with pytest.raises(UsageError, match="cross_entropy needs classes"):
        fit(model, data, loss="cross_entropy")
    with pytest.raises(UsageError, match="has 10: use cross_entropy"):
        fit(fresh(outputs=1), digits(), loss="binary")


def test_an_autoencoder_makes_its_input_again(data: Dataset) -> None:
    one_class = data.y_train == 3
    normal = replace(data, x_train=data.x_train[one_class], y_train=data.y_train[one_class])
    model = fresh("autoencoder", shape=(8, 8, 1), hidden=32)
    before = np.mean((predict(model.eval(), normal.x_train) - normal.x_train.reshape(-1, 64)) ** 2)
    fit(model, normal, epochs=30, learning_rate=5e-3, loss="reconstruction", keep="last")
    assert np.mean((predict(model, normal.x_train) - normal.x_train.reshape(-1, 64)) ** 2) < 0.5 * before


def test_label_smoothing_keeps_logits_small(data: Dataset) -> None:
    def spread(smoothing: float) -> float:
        model = fresh()
        fit(model, data, epochs=15, learning_rate=0.01, label_smoothing=smoothing, keep="last")
        return float(np.ptp(predict(model, data.x_test), axis=1).mean())

    assert spread(0.2) < 0.7 * spread(0.0)


# Hooks


def test_hooks_are_called(data: Dataset) -> None:
    model = fresh()
    steps: list[tuple[int, int]] = []
    fit(model, data, epochs=2, batch_size=128, before_step=lambda step, total: steps.append((step, total)))
    assert steps == [(i, 8) for i in range(8)]


def test_a_penalty_is_added(data: Dataset) -> None:
    def small(penalty: Callable[[nn.Module], Tensor] | None) -> float:
        model = fresh()
        fit(model, data, epochs=8, learning_rate=0.01, penalty=penalty)
        return float(np.mean(np.abs(weights(model)) < 1e-2))

    assert small(lambda model: 0.01 * sum(p.abs().sum() for p in model.parameters())) > small(None) + 0.3


def test_a_student_follows_its_teacher(data: Dataset) -> None:
    """Labels that are all wrong do not matter where the teacher has all the weight."""
    teacher = fresh("digits_cnn")
    fit(teacher, data, epochs=12, learning_rate=3e-3)
    before = weights(teacher)
    student = fresh()
    wrong = replace(data, y_train=(data.y_train + 1) % 10)
    fit(student, wrong, epochs=20, learning_rate=0.01, teacher=teacher, distill_weight=1.0, keep="last")
    agree = predict(student, data.x_test).argmax(1) == predict(teacher, data.x_test).argmax(1)
    assert agree.mean() > 0.85
    np.testing.assert_array_equal(weights(teacher), before)


def test_frozen_weights_stay(data: Dataset) -> None:
    model = fresh()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    fit(model, data, epochs=1)
    assert torch.equal(frozen, before)


def test_the_last_weights_can_be_kept(data: Dataset) -> None:
    model = fresh()
    history = fit(model, data, epochs=6, learning_rate=1.0, schedule="constant", keep="last")
    assert history.best == 5
    assert evaluate(model, data.x_validation, data.y_validation) == history.epochs[-1].accuracy


def test_early_stopping(data: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 100, "learning_rate": 0.1, "schedule": "constant", "early_stop": 3}
    history = fit(fresh(), data, checkpoint_dir=tmp_path, **options)
    assert fit(fresh(), data, checkpoint_dir=tmp_path, resume=True, **options) == history
    assert len(history.epochs) == history.best + 4 < 100
    assert history.stopped == f"no smaller validation loss in 3 epochs since epoch {history.best + 1}"
    assert not history.failed


# Augmentation


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def changed(x: Tensor, **amounts: float) -> Tensor:
    return augment(x, amounts, torch.Generator().manual_seed(0))


def test_augmentation_is_seeded() -> None:
    x = images(16, 2, 9, 7)
    for name in AUGMENTATIONS:
        amount = 0.5 if name == "flip" else 2.0 if name in ("shift", "cutout", "elastic") else 0.2
        y = changed(x, **{name: 10.0 if name == "rotate" else amount})
        assert y.shape == x.shape
        assert not torch.equal(y, x)
        assert torch.equal(y, changed(x, **{name: 10.0 if name == "rotate" else amount}))


def test_shift_moves_whole_pixels() -> None:
    x = images(64, 1, 6, 5) + 1
    y = changed(x, shift=2)
    seen = set()
    for before, after in zip(x[:, 0], y[:, 0], strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(padded[i : i + 6, j : j + 5], after)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 15


def test_flip_noise_cutout() -> None:
    x = images(200, 3, 8, 8) + 1
    y = changed(x, flip=0.25)
    flipped = torch.stack([(a == b.flip(-1)).all() for a, b in zip(y, x, strict=True)])
    assert 0.15 < flipped.float().mean() < 0.35
    assert 0.09 < (changed(x, noise=0.1) - x).std() < 0.11
    assert (changed(images(5, 4), noise=0.1)).shape == (5, 4)
    blank = (changed(x, cutout=3) == 0).all(1).flatten(1).sum(1)
    assert blank.max() == 9
    assert blank.min() >= 1


def test_warps_keep_the_middle() -> None:
    """A centred blob turns and grows about the centre; its mass stays near."""
    axis = torch.arange(15) - 7.0
    blob = torch.exp(-(axis[:, None] ** 2 + (axis / 2) ** 2) / 6)[None, None].repeat(50, 1, 1, 1)
    turned = changed(blob, rotate=180)
    rows = (turned.sum((1, 3)) * axis).sum(1) / turned.sum((1, 2, 3))
    assert rows.abs().max() < 0.1
    assert turned.sum((1, 2, 3)).std() < 0.2
    zoomed = changed(blob, scale=0.2).sum((1, 2, 3)) / blob[0].sum()
    assert 0.65 < zoomed.min() < 0.9 < 1.1 < zoomed.max() < 1.6
    assert (changed(blob, elastic=1.0) - blob).abs().max() > 0.05
    torch.testing.assert_close(changed(blob, scale=1e-6), blob)


def test_augmented_training(data: Dataset) -> None:
    model = fresh("digits_cnn")
    fit(model, data, epochs=8, learning_rate=5e-3, augment=("shift=1", "rotate=5"))
    assert evaluate(model, data.x_test, data.y_test) > 0.85
    flat = replace(data, x_train=data.x_train.reshape(-1, 64), x_validation=data.x_validation.reshape(-1, 64))
    with pytest.raises(UsageError, match="augmentation shift is of images, and these samples have 1 axes"):
        fit(fresh(shape=(64,)), flat, augment=("shift=1",))


# Checkpoints


OPTIONS: dict[str, Any] = {
    "epochs": 5,
    "learning_rate": 3e-3,
    "optimizer": "momentum",
    "warmup_epochs": 1,
    "augment": ("shift=1", "noise=0.1"),
}


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["digits_cnn", "dnn"])
@pytest.mark.parametrize("last_step", [3, 30, 52])
def test_a_resumed_run_ends_with_the_same_weights(name: str, last_step: int, data: Dataset, tmp_path: Path) -> None:
    """Batch norm, dropout, momentum, warm-up and augmentation; killed in the first, third and last epoch."""

    def kill(step: int, steps: int) -> None:
        assert steps == 65
        if step == last_step:
            raise Killed

    options = {"dropout": 0.3} if name == "dnn" else {}
    whole, part = fresh(name, **options), fresh(name, **options)
    history = fit(whole, data, **OPTIONS)
    with pytest.raises(Killed):
        fit(part, data, before_step=kill, checkpoint_dir=tmp_path, **OPTIONS)
    assert (tmp_path / FILE).exists() == (last_step >= 13)
    part = fresh(name, **options)
    seen: list[Epoch] = []
    resumed = fit(part, data, checkpoint_dir=tmp_path, resume=True, progress=seen.append, **OPTIONS)
    assert resumed == history
    assert len(seen) == 5 - last_step // 13
    np.testing.assert_array_equal(weights(part), weights(whole))
    again = fresh(name, **options)
    assert fit(again, data, checkpoint_dir=tmp_path, resume=True, **OPTIONS) == history
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_checkpoints_that_do_not_fit_are_named(data: Dataset, tmp_path: Path) -> None:
    fit(fresh(), data, epochs=1, checkpoint_dir=tmp_path)
    with pytest.raises(DataError, match="other options or data"):
        fit(fresh(), data, epochs=2, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(DataError, match="other options or data"):
        fit(fresh(), replace(data, y_train=data.y_train[::-1].copy()), epochs=1, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(DataError, match="another network"):
        fit(fresh("lenet300"), data, epochs=1, checkpoint_dir=tmp_path, resume=True)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"checkpoint.pt is no checkpoint"):
        fit(fresh(), data, epochs=1, checkpoint_dir=tmp_path, resume=True)
    path.write_bytes(b"x" * 40)
    with pytest.raises(DataError, match=r"checkpoint.pt is no checkpoint"):
        fit(fresh(), data, epochs=1, checkpoint_dir=tmp_path, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        fit(fresh(), data, epochs=1, checkpoint_dir=tmp_path / "file" / "below")


def test_a_tensorboard_log(data: Dataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(fresh(), data, epochs=3, log_dir=tmp_path)
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    assert set(log.Tags()["scalars"]) == {"loss/train", "loss/validation", "accuracy/validation", "learning_rate"}
    np.testing.assert_allclose(
        [e.value for e in log.Scalars("loss/train")], [e.loss for e in history.epochs], rtol=1e-6
    )


# Several devices


def halve(model: nn.Module) -> Tensor:
    return sum((1e-3 * p.square().sum() for p in model.parameters()), torch.zeros(()))


def test_two_processes_train_as_one(data: Dataset) -> None:
    """The same weights up to the rounding of a sum in another order.

    401 samples: the last batch of 17 is shared unevenly, 9 and 8.
    """
    odd = replace(data, x_train=digits().x_train[:401], y_train=digits().y_train[:401])
    options: dict[str, Any] = {"epochs": 2, "learning_rate": 0.1, "optimizer": "nesterov", "augment": ("shift=1",)}
    one, two = fresh("dnn"), fresh("dnn")
    seen: list[Epoch] = []
    alone = fit(one, odd, penalty=halve, **options)
    together = fit(two, odd, penalty=halve, devices=2, progress=seen.append, **options)
    assert tuple(seen) == together.epochs
    np.testing.assert_allclose(weights(two), weights(one), rtol=0, atol=1e-5)
    np.testing.assert_allclose([e.loss for e in together.epochs], [e.loss for e in alone.epochs], rtol=1e-5)
    assert [e.accuracy for e in together.epochs] == [e.accuracy for e in alone.epochs]


def explode(step: int, steps: int) -> None:
    raise ZeroDivisionError("no such luck")


def test_what_fails_in_a_process_is_one_sentence(data: Dataset) -> None:
    with pytest.raises(UsageError, match=r"process failed .*no such luck.*devices 1"):
        fit(fresh(), data, devices=2, before_step=explode)


def test_hooks_for_several_devices_must_pickle(data: Dataset) -> None:
    with pytest.raises(UsageError, match="can be pickled"):
        fit(fresh(), data, devices=2, before_step=lambda step, steps: None)


def test_an_absent_gpu_is_one_sentence(data: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match=r"gpu cannot be had.*use cpu"):
        fit(fresh(), data, accelerator="gpu")
