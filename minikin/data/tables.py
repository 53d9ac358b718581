"""Numbers in files: .npz arrays, CSV tables, CSV recordings of motion cut into windows."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np

from minikin.data.dataset import Dataset, group_split, stratified_split
from minikin.errors import DataError

PARTS = ("train", "validation", "test")
SHARES = (0.64, 0.16)
TIME_COLUMNS = ("", "index", "time", "timestamp", "time_ms", "delta_ms")


def npz_file(path: Path, seed: int = 0) -> Dataset:
    """x_train, y_train, x_validation, ... x_test, y_test as they are, or x and y, and groups if there are, to be split.

    Integer labels are classes 0 to the largest, named by an array `classes` if there is one; float ones are a regression's.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"{path} is no .npz of plain arrays ({str(error).splitlines()[0]}): save it again") from error
    whole = {f"{axis}_{part}" for part in PARTS for axis in "xy"}
    if not whole <= arrays.keys() and not {"x", "y"} <= arrays.keys():
        raise DataError(
            f"{path} has the arrays {', '.join(sorted(arrays)) or 'none'}: give x and y, or x_train, y_train, ..."
        )
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else ()
    if whole <= arrays.keys():
        parts = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in PARTS]
    else:
        x, y = arrays["x"], arrays["y"]
        if len(x) != len(y):
            raise DataError(f"{path} has {len(x)} samples in x but {len(y)} in y: they must be as many")
        parts = [(x[part], y[part]) for part in _split(y, arrays.get("groups"), seed)]
    return _dataset(path.stem, parts, names)


def csv_table(path: Path, target: str | None = None, group: str | None = None, seed: int = 0) -> Dataset:
    """A header, then a sample in each row; `target` (the last column) is its class, a word or integer, or its value, a float.

    All other columns are features, as float32 [count, features]; rows of one value of `group` stay in one part.
    """
    header, rows = _read_csv(path)
    target = target or header[-1]
    for name in (target, *([group] if group else [])):
        if name not in header:
            raise DataError(f"{path} has no column {name}: it has {', '.join(header)}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    features = [name for name in header if name not in (target, group)]
    x = np.stack([_floats(path, name, columns[name]) for name in features], axis=1)
    y, names = _labels(columns[target])
    groups = np.array(columns[group]) if group else None
    return _dataset(path.stem, [(x[part], y[part]) for part in _split(y, groups, seed)], names)


def motion_folder(folder: Path, window: int = 50, step: int | None = None, seed: int = 0) -> Dataset:
    """A folder of CSV recordings for each class: windows float32 [count, window, axes, 1], a new one every `step` rows.

    `step` None is half a window. All windows of a file are in one part; 64% / 16% / 20% of the windows. Numbers are divided by
    the largest magnitude in the training part. Columns of time are left out.
    """
    files = sorted(folder.glob("*/*.csv"))
    classes = tuple(sorted({path.parent.name for path in files}))
    if len(classes) < 2:
        raise DataError(f"{folder} has recordings of {len(classes)} classes: give a folder of .csv for each")
    if window < 1 or (step is not None and step < 1):
        raise DataError(f"window {window} and step {step} must be above 0")
    windows: list[np.ndarray] = []  # [axes, window] each
    labels, groups = [], []
    for path in files:
        x = _recording(path)
        if windows and x.shape[1] != len(windows[0]):
            raise DataError(f"{path} has {x.shape[1]} axes and {files[0]} has {len(windows[0])}: give the same columns")
        if len(x) < window:
            continue
        cut = np.lib.stride_tricks.sliding_window_view(x, window, axis=0)[:: step or max(1, window // 2)]
        windows += list(cut)
        labels += [classes.index(path.parent.name)] * len(cut)
        groups += [str(path)] * len(cut)
    if not windows:
        raise DataError(f"{folder} has no recording of {window} rows: give a smaller window")
    x, y = np.stack(windows).transpose(0, 2, 1)[..., np.newaxis], np.array(labels)
    parts = _split(y, np.array(groups), seed)
    x = x / np.abs(x[parts[0]]).max(initial=1e-9)
    return _dataset(folder.name, [(x[part], y[part]) for part in parts], classes)


def _recording(path: Path) -> np.ndarray:
    """float32 [rows, axes], with or without a header."""
    header, rows = _read_csv(path)
    try:
        rows = [[str(float(word)) for word in header], *rows]
        header = [f"column {i + 1}" for i in range(len(header))]
    except ValueError:
        pass
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    kept = [name for name in header if name.strip().lower() not in TIME_COLUMNS]
    return np.stack([_floats(path, name, columns[name]) for name in kept], axis=1)


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(path, newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): save it as CSV again") from error
    if len(rows) < 2:
        raise DataError(f"{path} has {max(0, len(rows) - 1)} rows under its header: give some")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path} has {len(row)} columns in row {number + 1} and {len(rows[0])} in row 1: make them as many"
            )
    return [word.strip() for word in rows[0]], rows[1:]


def _floats(path: Path, name: str, words: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array(words, np.float32)
    except ValueError as error:
        raise DataError(f"{path} has a word in column {name} ({error}): make it numbers, or the target") from error


def _labels(words: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes where the words are no floats: (numbers of the sorted names, names); else (float32 values, none)."""
    try:
        if not all(word.strip().lstrip("-").isdigit() for word in words):
            return np.array(words, np.float32), ()
        names = sorted({word.strip() for word in words}, key=int)
    except ValueError:
        names = sorted({word.strip() for word in words})
    return np.array([names.index(word.strip()) for word in words]), tuple(names)


def _split(y: np.ndarray, groups: np.ndarray | None, seed: int) -> list[np.ndarray]:
    if groups is not None:
        return group_split([str(group) for group in groups], SHARES, seed)
    if y.dtype.kind in "iu" and y.ndim == 1:
        return stratified_split(y, SHARES, seed)
    return np.split(np.random.default_rng(seed).permutation(len(y)), np.rint(np.cumsum(SHARES) * len(y)).astype(int))


def _dataset(name: str, parts: list[tuple[np.ndarray, np.ndarray]], names: tuple[str, ...]) -> Dataset:
    """Checked and in the dtypes that training takes."""
    regression = parts[0][1].dtype.kind == "f"
    arrays: list[np.ndarray] = []
    for what, (x, y) in zip(PARTS, parts, strict=True):
        if x.dtype.kind not in "fiub" or y.dtype.kind not in "fiub":
            raise DataError(f"{name} has {what} samples {x.dtype} and labels {y.dtype}: give numbers")
        arrays += [np.ascontiguousarray(x, np.float32), y.astype(np.float32 if regression else np.int64)]
    if regression:
        return Dataset(name, *arrays, classes=())
    largest = max((int(y.max()) for y in arrays[1::2] if len(y)), default=0)
    return Dataset(name, *arrays, classes=names or tuple(map(str, range(largest + 1))))
