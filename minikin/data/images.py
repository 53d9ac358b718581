"""Colour images: CIFAR-10, and folders of images."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from minikin.data.dataset import Dataset, stratified_split
from minikin.data.download import fetch
from minikin.data.sources import data_folders
from minikin.errors import DataError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-binary.tar.gz"
URLS = (f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",)
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ARCHIVE_BYTES = 170_052_171
RECORD_BYTES = 1 + 3 * 32 * 32
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
SHEETS = {"train": range(7), "validation": (7,), "test": (49,)}  # of the sheets' numbers; 49 is read once, at the end
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def cifar10(download: bool = False) -> Dataset:
    """CIFAR-10, 32x32x3 in [0, 1]: 45,000 / 5,000 of the training images, and the 10,000 test images.

    Reads MINIKIN_DATA/cifar10, then the cache: the binary version's archive or its .bin files, or PNG sheets of 1,000 images
    (cifar10_00.png with cifar10_00.labels.txt), of which 00-06 train, 07 validates and 49 tests. Raises DataError.
    """
    folders = data_folders("cifar10")
    for folder in folders:
        if (folder / "cifar10_00.png").is_file():
            return _sheets(folder)
        if (folder / BATCHES[0]).is_file():
            return _batches(
                {name: (folder / name).read_bytes() for name in BATCHES if (folder / name).is_file()}, folder
            )
        if (folder / ARCHIVE).is_file():
            return _archive(folder / ARCHIVE)
    if not download:
        looked = " nor in ".join(map(str, folders))
        raise DataError(f"CIFAR-10 is neither in {looked}: set MINIKIN_DATA or give --download")
    return _archive(fetch(URLS, SHA256, ARCHIVE_BYTES, folders[-1] / ARCHIVE))


def image_folder(folder: Path, seed: int = 0) -> Dataset:
    """A folder of images for each class, all of one size, in [0, 1]; 64% / 16% / 20% of each class."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    classes = tuple(sorted({path.parent.name for path in files}))
    if len(classes) < 2:
        raise DataError(f"{folder} has images of {len(classes)} classes: give a folder for each")
    images = [_read_image(path) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{path} is {_size(image)} and {files[0].name} is {_size(images[0])}: resize them to one size and colour"
            )
    x, y = np.stack(images).astype(np.float32) / 255, np.array([classes.index(path.parent.name) for path in files])
    train, validation, test = stratified_split(y, (0.64, 0.16), seed)
    return Dataset(folder.name, x[train], y[train], x[validation], y[validation], x[test], y[test], classes)


def _size(image: np.ndarray) -> str:
    return "x".join(map(str, image.shape))


def _read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 1 or 3]. Raises DataError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read ({str(error).splitlines()[0]}): replace it") from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _sheets(folder: Path) -> Dataset:
    arrays: list[np.ndarray] = []
    for numbers in SHEETS.values():
        pixels, labels = [], []
        for number in numbers:
            path = folder / f"cifar10_{number:02}.png"
            sheet, text = _read_image(path), path.with_suffix(".labels.txt")
            try:
                found = np.array([int(word) for word in text.read_text().split()])
                pixels.append(sheet.reshape(len(found), 32, 32, 3))
            except (OSError, ValueError) as error:
                raise DataError(f"{path} and {text.name} do not fit together ({error}): fetch both again") from error
            labels.append(found)
        arrays += [np.concatenate(pixels).astype(np.float32) / 255, np.concatenate(labels)]
    return Dataset("cifar10", *arrays, classes=CIFAR10)


def _archive(path: Path) -> Dataset:
    """Read in place: nothing is unpacked to disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if Path(member.name).name in BATCHES else None
                if stream is not None and member.size <= 10_000 * RECORD_BYTES:
                    found[Path(member.name).name] = stream.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and fetch it again") from error
    return _batches(found, path)


def _batches(found: dict[str, bytes], where: Path) -> Dataset:
    """Records of a label byte and three 32x32 planes."""
    for name in BATCHES:
        if not found.get(name) or len(found[name]) % RECORD_BYTES:
            raise DataError(
                f"{where} has {len(found.get(name, b''))} bytes of {name}, no {RECORD_BYTES} per image: fetch it again"
            )
    train, test = (
        np.frombuffer(b"".join(found[name] for name in names), np.uint8).reshape(-1, RECORD_BYTES)
        for names in (BATCHES[:-1], BATCHES[-1:])
    )
    cut = len(train) * 9 // 10
    arrays = [a for part in (train[:cut], train[cut:], test) for a in (_planes(part), part[:, 0].astype(np.int64))]
    return Dataset("cifar10", *arrays, classes=CIFAR10)


def _planes(records: np.ndarray) -> np.ndarray:
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.float32) / 255
