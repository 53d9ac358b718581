"""Small images by name: scikit-learn's bundled digits, MNIST, Fashion-MNIST."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minikin.data.dataset import Dataset, stratified_split
from minikin.data.download import fetch, fetch_gzip, read_gzip
from minikin.errors import DataError, UsageError

DIGITS = tuple("0123456789")
SPLIT_SEED = 0
VALIDATION_SHARE = 12  # 5,000 of 60,000
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclass(frozen=True)
class IdxFile:
    """One of MNIST's files: its shape, and its hash: of the unpacked bytes, or, as "md5:...", of the .gz."""

    name: str
    shape: tuple[int, ...]
    hash: str

    @property
    def nbytes(self) -> int:
        return self.header_bytes + int(np.prod(self.shape))

    @property
    def header_bytes(self) -> int:
        return 4 + 4 * len(self.shape)


MNIST_FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    IdxFile("train-labels-idx1-ubyte", (60000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    IdxFile("t10k-labels-idx1-ubyte", (10000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_FILES = tuple(
    replace(file, hash=f"md5:{md5}")
    for file, md5 in zip(
        MNIST_FILES,
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        strict=True,
    )
)
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def digits(seed: int = SPLIT_SEED) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8x8x1 in [0, 1], of 43 writers; 64% / 16% / 20% of each class.

    The writers are not recorded, so a writer's digits may lie in several parts. Nothing is downloaded.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("the digits come with scikit-learn, which is missing: pip install 'minikin[train]'") from error
    bunch: Any = load_digits()
    x = (bunch.images / 16.0).astype(np.float32)[..., np.newaxis]
    y = bunch.target.astype(np.int64)
    train, validation, test = stratified_split(y, (0.64, 0.16), seed)
    return Dataset("digits", x[train], y[train], x[validation], y[validation], x[test], y[test], classes=DIGITS)


def mnist(download: bool = False) -> Dataset:
    """MNIST, 28x28x1 in [0, 1]: the last 5,000 of the 60,000 training images validate, the 10,000 test images test.

    Reads MINIKIN_DATA/mnist, then the cache; with `download` it fetches what is missing into it. Raises DataError.
    """
    return _idx_dataset("mnist", MNIST_FILES, MNIST_MIRRORS, DIGITS, download)


def fashion_mnist(download: bool = False) -> Dataset:
    """Fashion-MNIST, in MNIST's shape and split the same way; reads MINIKIN_DATA/fashion_mnist."""
    return _idx_dataset("fashion_mnist", FASHION_FILES, FASHION_MIRRORS, FASHION, download)


def data_folders(name: str) -> tuple[Path, ...]:
    """Where a data set is looked for; the last is the cache, which downloads fill."""
    import pooch

    given = os.environ.get("MINIKIN_DATA")
    return (*([Path(given) / name] if given else []), Path(pooch.os_cache("minikin")) / name)


def _idx_dataset(
    name: str, files: tuple[IdxFile, ...], mirrors: tuple[str, ...], classes: tuple[str, ...], download: bool
) -> Dataset:
    x, y, x_test, y_test = (_read_idx(file, _find(file, name, mirrors, download)) for file in files)
    y, y_test = y.astype(np.int64), y_test.astype(np.int64)
    train = len(y) - len(y) // VALIDATION_SHARE
    x, x_test = _pixels(x), _pixels(x_test)
    return Dataset(name, x[:train], y[:train], x[train:], y[train:], x_test, y_test, classes)


def _pixels(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float32) / 255.0)[..., np.newaxis]


def _find(file: IdxFile, name: str, mirrors: tuple[str, ...], download: bool) -> Path:
    folders = data_folders(name)
    for folder in folders:
        for found in (file.name, f"{file.name}.gz"):
            if (folder / found).is_file():
                return folder / found
    if not download:
        raise DataError(
            f"{file.name} is neither in {' nor in '.join(map(str, folders))}: set MINIKIN_DATA or give --download"
        )
    urls = [f"{mirror}{file.name}.gz" for mirror in mirrors]
    if file.hash.startswith("md5:"):
        return fetch(urls, file.hash, file.nbytes, folders[-1] / f"{file.name}.gz")
    return fetch_gzip(urls, file.hash, file.nbytes, folders[-1] / file.name)


def _read_idx(file: IdxFile, path: Path) -> np.ndarray:
    """An idx file: 0, 0, type 8 (unsigned byte), rank, big-endian sizes, data."""
    data = read_gzip(path, file.nbytes)
    header = bytes((0, 0, 8, len(file.shape))) + np.array(file.shape, ">i4").tobytes()
    if len(data) != file.nbytes or not data.startswith(header):
        raise DataError(
            f"{path} is not MNIST's {file.name} ({len(data):,} bytes, want {file.nbytes:,}): fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=file.header_bytes).reshape(file.shape)
