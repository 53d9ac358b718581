"""Data by name or path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minikin.data.dataset import Dataset
from minikin.data.features import Mfcc
from minikin.data.images import SUFFIXES, cifar10, image_folder
from minikin.data.sound import wav_folder
from minikin.data.sources import data_folders, digits, fashion_mnist, mnist
from minikin.data.speech import PACKED, fetch_archive, speech_commands
from minikin.data.tables import csv_table, motion_folder, npz_file
from minikin.errors import DataError, UsageError


def load_dataset(name_or_path: str | Path, **options: Any) -> Dataset:
    """digits, mnist, fashion_mnist, cifar10 or speech_commands by name; or a .npz, a .csv, or a folder.

    A folder holds Speech Commands, or for each class a folder of wavs, of images or of CSV recordings. `options` are the
    keyword arguments of the function for that kind of data: `download`, `seed`, `target`, `window` ... Raises DataError,
    UsageError.
    """
    name = str(name_or_path)
    if name in NAMES:
        return _call(NAMES[name], name, options)
    path = Path(name)
    if not path.exists():
        raise DataError(f"data {name} is neither a file nor one of {', '.join(NAMES)}: check the name")
    return _call(_reader(path), name, options, path)


def _speech(download: bool = False, seed: int = 0) -> Dataset:
    """Reads MINIKIN_DATA/speech_commands, then the cache; with `download` it fetches the 2.4 GB into that."""
    for folder in data_folders("speech_commands"):
        if folder.is_dir() and any(folder.iterdir()):
            return speech_commands(folder, seed=seed)
    if not download:
        looked = " nor in ".join(map(str, data_folders("speech_commands")))
        raise DataError(f"Speech Commands is neither in {looked}: set MINIKIN_DATA or give --download")
    return speech_commands(fetch_archive(data_folders("speech_commands")[-1]), seed=seed)


def _wavs(folder: Path, seed: int = 0, rate: int = 16000, seconds: float = 1.0) -> Dataset:
    """MFCC of windows of 30 ms every 20 ms."""
    window = round(0.03 * rate)
    size = 1 << (window - 1).bit_length()
    features = Mfcc(rate=rate, window=window, step=round(0.02 * rate), fft=size, high_hz=min(4000.0, rate / 2))
    return wav_folder(folder, features, seed, seconds)


NAMES: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "speech_commands": _speech,
}


def _reader(path: Path) -> Callable[..., Dataset]:
    """The function for a file's or folder's kind of data."""
    if path.is_file():
        readers = {".npz": npz_file, ".csv": csv_table}
        if path.suffix.lower() not in readers:
            raise DataError(f"{path} is no kind of data that is read: give a .npz, a .csv or a folder")
        return readers[path.suffix.lower()]
    if (path / "testing_list.txt").is_file() or (path / f"{PACKED[0]}.i16.xz").is_file():
        return speech_commands
    suffixes = {found.suffix.lower() for found in path.rglob("*") if found.is_file()}
    for reader, known in ((_wavs, (".wav",)), (image_folder, SUFFIXES), (motion_folder, (".csv",))):
        if suffixes & set(known):
            return reader
    raise DataError(f"{path} holds neither wavs nor images nor CSV recordings: give a folder of them for each class")


def _call(reader: Callable[..., Dataset], name: str, options: dict[str, Any], *arguments: Path) -> Dataset:
    known = list(inspect.signature(reader).parameters)[len(arguments) :]
    for option in options:
        if option not in known:
            raise UsageError(f"data {name} has no option {option}: it has {', '.join(known) or 'none'}")
    return reader(*arguments, **options)
