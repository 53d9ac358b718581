"""Sounds: clips of one length, their features, and augmentation of the sound itself.

| name | amount | what it does |
|---|---|---|
| time_shift | milliseconds | moves the clip up to so far, both ways; silence comes in |
| speed | fraction | plays it up to so much faster or slower, pitch and all |
| background | volume | with a chance of 0.8 adds noise whose peak is up to so much of the clip's |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minikin.data.dataset import Dataset, group_split
from minikin.data.features import Features
from minikin.errors import DataError

AUGMENTATIONS = ("time_shift", "speed", "background")
NOISE_CHANCE = 0.8


@dataclass(frozen=True)
class Sounds:
    """Clips int16 [n, samples] and noise to lay under them, int16 [m, samples]; `draw` gives features of changed clips."""

    clips: np.ndarray
    noise: np.ndarray
    features: Features

    def draw(self, indices: np.ndarray, amounts: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
        x = self.clips[indices].astype(np.float32)
        if "time_shift" in amounts or "speed" in amounts:
            x = self._moved(x, amounts.get("time_shift", 0.0), amounts.get("speed", 0.0), rng)
        if "background" in amounts:
            x += self._noise(x, amounts["background"], rng)
        return self.features.on_grid(self.features(x))

    def _moved(self, x: np.ndarray, shift_ms: float, speed: float, rng: np.random.Generator) -> np.ndarray:
        """Between two samples linearly; 0 outside the clip."""
        n, samples = x.shape
        limit = shift_ms * self.features.rate / 1000
        offsets, factors = np.rint(rng.uniform(-limit, limit, n)), 1 + rng.uniform(-speed, speed, n)
        grid, middle = np.arange(samples), samples / 2
        moved = np.empty_like(x)
        for row, offset, factor, clip in zip(moved, offsets, factors, x, strict=True):
            row[:] = np.interp((grid - middle) * factor + (middle + offset), grid, clip, left=0, right=0)
        return moved

    def _noise(self, x: np.ndarray, volume: float, rng: np.random.Generator) -> np.ndarray:
        n, samples = x.shape
        chosen = self.noise[rng.integers(0, len(self.noise), n)].astype(np.float32)
        rolled = np.stack([np.roll(clip, by) for clip, by in zip(chosen, rng.integers(0, samples, n), strict=True)])
        level = rng.uniform(0, volume, (n, 1)) * (rng.random((n, 1)) < NOISE_CHANCE)
        peak = np.maximum(np.abs(rolled).max(1, keepdims=True), 1)
        return rolled * (np.abs(x).max(1, keepdims=True) * level / peak).astype(np.float32)


def sound_dataset(
    name: str,
    clips: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[np.ndarray],
    classes: tuple[str, ...],
    features: Features,
    noise: np.ndarray | None = None,
) -> Dataset:
    """Clips int16 [n, samples] by the indices of the three parts; without `noise`, training clips are laid under each other.

    The features have only values of their int8 codes: those are what a device's network is given.
    """
    train = parts[0]
    sounds = Sounds(clips[train], clips[train] if noise is None or not len(noise) else noise, features)
    arrays = []
    for part in parts:
        arrays += [features.on_grid(features(clips[part])), labels[part].astype(np.int64)]
    quant = features.quant
    return Dataset(name, *arrays, classes=classes, draw=sounds.draw, augmentations=AUGMENTATIONS, quant=quant)


def wav_folder(folder: Path, features: Features, seed: int, seconds: float = 1.0) -> Dataset:
    """A folder of wavs for each class, or wavs named label_speaker_index.wav; 70% / 15% / 15%, split by speaker.

    A speaker is what stands before `_nohash_`, or between the first two underscores; where no name has either, files are
    split one by one. Clips are cut or filled up with silence to `seconds`.
    """
    files = sorted(folder.rglob("*.wav"))
    flat = all(path.parent == folder for path in files)
    words = [path.stem.split("_")[0] if flat else path.parent.name for path in files]
    classes = tuple(sorted(set(words)))
    if len(classes) < 2:
        raise DataError(
            f"{folder} has wavs of {len(classes)} classes: give a folder for each, or label_speaker_index.wav"
        )
    clips = np.stack([read_wav(path, features.rate, round(seconds * features.rate)) for path in files])
    labels = np.array([classes.index(word) for word in words])
    parts = group_split([speaker_of(path, flat) for path in files], (0.7, 0.15), seed)
    return sound_dataset(folder.name, clips, labels, parts, classes, features)


def speaker_of(path: Path, flat: bool) -> str:
    if "_nohash_" in path.stem:
        return path.stem.split("_nohash_")[0]
    return path.stem.split("_")[1] if flat and path.stem.count("_") >= 2 else str(path)


def read_wav(path: Path, rate: int, samples: int) -> np.ndarray:
    """int16 [samples]: the first channel, cut or filled up with zeros. Raises DataError for a file of another rate."""
    x, found = load_wav(path)
    if found != rate:
        raise DataError(f"{path} has {found} samples a second and not {rate}: resample it, or give the rate")
    return np.pad(x[:samples], (0, max(0, samples - len(x))))


def load_wav(path: Path) -> tuple[np.ndarray, int]:
    """(int16 samples of the first channel, rate). Raises DataError."""
    import soundfile

    try:
        x, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"{path} is no sound that can be read ({str(error).splitlines()[0]}): convert it to wav"
        ) from error
    return x[:, 0], rate
