"""Features of sounds and other series: what a network sees, computed as on the device."""

from minikin.data.features.spectral import Features, Fft, LogMel, Mfcc

__all__ = ["Features", "Fft", "LogMel", "Mfcc"]
