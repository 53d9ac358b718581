"""Speech Commands as MLPerf Tiny uses it: ten words, silence and unknown; one second at 16 kHz, MFCC 49x10."""

from __future__ import annotations

import csv
import lzma
import tarfile
from pathlib import Path

import numpy as np

from minikin.data.dataset import Dataset, group_split
from minikin.data.download import fetch
from minikin.data.features import Features, Mfcc
from minikin.data.sound import load_wav, read_wav, sound_dataset
from minikin.errors import DataError

CLASSES = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_")
SILENCE, UNKNOWN = CLASSES.index("_silence_"), CLASSES.index("_unknown_")
RATE = 16000
PACKED = ("train_16k", "train_16k_more")  # raw int16 clips in one .i16.xz each, with a .csv beside it
URLS = ("https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",)
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
ARCHIVE_BYTES = 2_428_923_189
SHARE = 0.1  # of silence and of unknown words, against all others, as in the paper (arXiv:1804.03209)


def speech_commands(folder: Path, features: Features | None = None, seed: int = 0) -> Dataset:
    """From the usual folders of wavs with validation_list.txt and testing_list.txt, or from packed clips.

    Packed clips are split by speaker, those of silence by index, 85% / 15%; the test is MLPerf Tiny's own 1,000 samples where
    they are beside it (mlperf_tiny/kws01), else 70% / 15% / 15%.
    """
    features = features or Mfcc()
    if (folder / f"{PACKED[0]}.i16.xz").is_file():
        return _packed(folder, features, seed)
    if (folder / "testing_list.txt").is_file():
        return _usual(folder, features, seed)
    raise DataError(f"{folder} has neither testing_list.txt nor {PACKED[0]}.i16.xz: give Speech Commands' own folder")


def packed_clips(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(clips int16 [n, 16000], labels, speakers) of all packed files in a folder."""
    clips, labels, speakers = [], [], []
    for name in PACKED:
        path, table = folder / f"{name}.i16.xz", folder / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            with lzma.open(path) as stream:
                found = np.frombuffer(stream.read(), "<i2").reshape(-1, RATE)
            with open(table, newline="") as stream:
                rows = list(csv.DictReader(stream))
            labels += [CLASSES.index(row["class"]) for row in rows]
            speakers += [_speaker(row["source_file"]) for row in rows]
        except (OSError, lzma.LZMAError, EOFError, ValueError, KeyError) as error:
            raise DataError(f"{path} and {table.name} cannot be read ({error}): fetch them again") from error
        if len(rows) != len(found):
            raise DataError(f"{table} has {len(rows)} rows for {len(found)} clips: fetch both again")
        clips.append(found)
    return np.concatenate(clips), np.array(labels), speakers


def kws01(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """MLPerf Tiny's official samples: (features float32 [1000, 49, 10, 1], labels), from int8 by the reference's scale."""
    quant = Mfcc().quant
    try:
        with open(folder / "y_labels.csv", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
        raw = [np.frombuffer((folder / row[0]).read_bytes(), np.int8).reshape(49, 10, 1) for row in rows]
        labels = np.array([int(row[2]) for row in rows])
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{folder} cannot be read ({error}): fetch MLPerf Tiny's kws01 again") from error
    x = (np.stack(raw).astype(np.int32) - quant.zero_point) * np.float32(quant.scale)
    return x.astype(np.float32), labels


def _speaker(source: str) -> str:
    """down/412c675c_nohash_1.wav -> 412c675c; a clip of silence has none, and is its own."""
    return Path(source).stem.split("_nohash_")[0] if "_nohash_" in source else source


def _packed(folder: Path, features: Features, seed: int) -> Dataset:
    clips, labels, speakers = packed_clips(folder)
    official = folder.parent / "mlperf_tiny" / "kws01"
    own_test = not (official / "y_labels.csv").is_file() or features != Mfcc()
    parts = group_split(speakers, (0.7, 0.15) if own_test else (0.85, 0.15), seed)
    noise = clips[parts[0]][labels[parts[0]] == SILENCE]
    data = sound_dataset("speech_commands", clips, labels, parts, CLASSES, features, noise)
    return data if own_test else data.with_test(*kws01(official))


def _usual(folder: Path, features: Features, seed: int) -> Dataset:
    """The lists name validation and test; unknown words and silence are drawn with the seed, a tenth of the rest each."""
    rng = np.random.default_rng(seed)
    lists = [set((folder / f"{name}_list.txt").read_text().split()) for name in ("validation", "testing")]
    noise = _noise(folder / "_background_noise_")
    chosen: list[list[tuple[Path, int]]] = [[], [], []]
    unknown: list[list[Path]] = [[], [], []]
    for path in sorted(folder.glob("*/*.wav")):
        if path.parent.name == "_background_noise_":
            continue
        name = f"{path.parent.name}/{path.name}"
        part = 1 if name in lists[0] else 2 if name in lists[1] else 0
        if path.parent.name in CLASSES:
            chosen[part].append((path, CLASSES.index(path.parent.name)))
        else:
            unknown[part].append(path)
    clips, labels, parts = [], [], []
    for known, others in zip(chosen, unknown, strict=True):
        wanted = round(SHARE * len(known))
        drawn = rng.permutation(len(others))[:wanted]
        rows = [*known, *((others[i], UNKNOWN) for i in drawn)]
        clips += [read_wav(path, RATE, RATE) for path, _ in rows]
        clips += [noise[i] for i in rng.integers(0, len(noise), wanted)] if len(noise) else []
        labels += [label for _, label in rows] + ([SILENCE] * wanted if len(noise) else [])
        parts.append(np.arange(sum(map(len, parts)), len(clips)))
    if not all(len(part) for part in parts):
        raise DataError(
            f"{folder} has {' / '.join(str(len(p)) for p in parts)} clips to train / validate / test: fetch it again"
        )
    return sound_dataset("speech_commands", np.stack(clips), np.array(labels), parts, CLASSES, features, noise)


def _noise(folder: Path) -> np.ndarray:
    """Its long recordings in pieces of one second, int16 [n, 16000]."""
    pieces = [x[: len(x) // RATE * RATE].reshape(-1, RATE) for x, _ in map(load_wav, sorted(folder.glob("*.wav")))]
    return np.concatenate(pieces) if pieces else np.zeros((0, RATE), np.int16)


def fetch_archive(folder: Path) -> Path:
    """Speech Commands v0.02 in its usual folders below `folder`, fetched and unpacked. Raises DataError."""
    packed = fetch(URLS, SHA256, ARCHIVE_BYTES, folder.parent / "speech_commands_v0.02.tar.gz")
    unpacked = folder.with_name(f"{folder.name}.unpacking")  # takes its name when it is whole
    try:
        with tarfile.open(packed) as archive:
            archive.extractall(unpacked, filter="data")
        unpacked.replace(folder)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{packed} cannot be unpacked ({error}): make room, or delete it and fetch it again") from error
    packed.unlink()
    return folder
