"""Magnitude spectra of overlapping windows, and what is made of them: log-mel bands, MFCC.

Windows, mel scale and DCT are those of `tf.signal`, with which MLPerf Tiny's keyword spotter was trained; so is the order of
the steps, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minikin.errors import DataError, UsageError
from minikin.fixedpoint import round_half_away
from minikin.graph import Quant

CHUNK = 256  # series at a time, which bounds the memory
LOG_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class Features:
    """Series [n, samples] -> float32 [n, frames, values, 1]; frames of `window` samples every `step`.

    With `normalize` each series is divided by its maximum sample first.
    """

    rate: int = 16000
    window: int = 480
    step: int = 320
    fft: int = 512
    normalize: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.window <= self.fft or self.step < 1:
            raise UsageError(
                f"window {self.window}, step {self.step}, fft {self.fft}: need 0 < window <= fft, step > 0"
            )

    @property
    def values(self) -> int:
        raise NotImplementedError

    @property
    def quant(self) -> Quant:
        """The int8 scale and zero point of a network's input that is given these features."""
        raise NotImplementedError

    def on_grid(self, x: np.ndarray) -> np.ndarray:
        """Features rounded to the values of their int8 codes, halves away from zero."""
        scale, zero_point = np.float32(self.quant.scale), self.quant.zero_point
        codes = np.clip(round_half_away(x / scale) + zero_point, -128, 127)
        return ((codes - zero_point) * scale).astype(np.float32)

    def of_spectrum(self, magnitudes: np.ndarray) -> np.ndarray:
        """[..., fft / 2 + 1] -> [..., values]"""
        raise NotImplementedError

    def frames(self, samples: int) -> int:
        return (samples - self.window) // self.step + 1

    def __call__(self, series: np.ndarray) -> np.ndarray:
        """Raises DataError for series shorter than one window."""
        if series.ndim != 2 or series.shape[1] < self.window:
            raise DataError(
                f"series {series.shape} are shorter than one window of {self.window} samples: give longer ones"
            )
        chunks = [self._chunk(series[i : i + CHUNK]) for i in range(0, len(series), CHUNK)]
        empty = np.zeros((0, self.frames(series.shape[1]), self.values, 1), np.float32)
        return np.concatenate(chunks) if chunks else empty

    def _chunk(self, series: np.ndarray) -> np.ndarray:
        from scipy.fft import rfft

        x = series.astype(np.float32)
        if self.normalize:
            top = x.max(axis=1, keepdims=True)
            x /= np.where(top > 0, top, 1)
        framed = np.lib.stride_tricks.sliding_window_view(x, self.window, axis=1)[:, :: self.step]
        magnitudes = np.abs(np.asarray(rfft(framed * self._hann, self.fft)))
        return self.of_spectrum(magnitudes.astype(np.float32)).astype(np.float32)[..., np.newaxis]

    @cached_property
    def _hann(self) -> np.ndarray:
        """Periodic: the next period would begin with the value after the last."""
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Fft(Features):
    """Amplitudes of the frequencies 0 .. rate / 2: a sine of amplitude 1 gives 1 in its bin.

    `full_scale` is the largest amplitude that the quantization covers.
    """

    full_scale: float = 1.0

    @property
    def values(self) -> int:
        return self.fft // 2 + 1

    @property
    def quant(self) -> Quant:
        return _covering(0.0, self.full_scale)

    def of_spectrum(self, magnitudes: np.ndarray) -> np.ndarray:
        return magnitudes * (2 / self._hann.sum())


@dataclass(frozen=True, kw_only=True)
class LogMel(Features):
    """log(energy + 1e-6) of `bands` triangular bands, spaced evenly in mel from `low_hz` to `high_hz`."""

    bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0

    @property
    def values(self) -> int:
        return self.bands

    @property
    def quant(self) -> Quant:
        """From silence to the loudest that a series between -1 and 1 can be."""
        loudest = self._hann.sum() * self._mel.sum(axis=0).max()
        return _covering(float(np.log(LOG_FLOOR)), float(np.log(loudest)))

    def of_spectrum(self, magnitudes: np.ndarray) -> np.ndarray:
        return np.log(magnitudes @ self._mel + np.float32(LOG_FLOOR))

    @cached_property
    def _mel(self) -> np.ndarray:
        """[fft / 2 + 1, bands] weights, in HTK's mel = 1127 ln(1 + f / 700); the constant bin has none."""
        if not 0 <= self.low_hz < self.high_hz <= self.rate / 2:
            raise UsageError(f"bands from {self.low_hz:g} to {self.high_hz:g} Hz: half the rate is {self.rate / 2:g}")
        mel = 1127 * np.log1p(np.linspace(0, self.rate / 2, self.fft // 2 + 1)[1:, np.newaxis] / 700)
        lowest, highest = (1127 * np.log1p(hz / 700) for hz in (self.low_hz, self.high_hz))
        edges = np.linspace(lowest, highest, self.bands + 2)
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        weights = np.maximum(0, np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)))
        return np.concatenate([np.zeros((1, self.bands)), weights]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Mfcc(LogMel):
    """The first `coefficients` of the bands' DCT-II, divided by sqrt(2 bands), as `tf.signal.mfccs_from_log_mel_spectrograms`.

    As it stands: the 49x10 features of MLPerf Tiny's keyword spotter, of one second at 16 kHz.
    """

    coefficients: int = 10

    @property
    def values(self) -> int:
        return self.coefficients

    @property
    def quant(self) -> Quant:
        """The input of MLPerf Tiny's reference model `kws_ref_model.tflite`."""
        return Quant((0.5847029089927673,), (83,))

    def of_spectrum(self, magnitudes: np.ndarray) -> np.ndarray:
        from scipy.fft import dct

        bands = super().of_spectrum(magnitudes)
        return np.asarray(dct(bands, 2, axis=-1))[..., : self.coefficients] / np.float32(np.sqrt(2 * self.bands))


def _covering(low: float, high: float) -> Quant:
    scale = (high - low) / 255
    return Quant((float(np.float32(scale)),), (round(-128 - low / scale),))
