"""data/: every kind of data that can be loaded, small ones made here; what is wrong with a file is one sentence."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import minikin
from minikin.data import Dataset, images, load_dataset, sources, speech
from minikin.data.dataset import group_split
from minikin.data.features import Fft, LogMel, Mfcc
from minikin.data.speech import kws01, packed_clips
from minikin.errors import DataError, UsageError
from minikin.importers import load
from minikin.vboard.host import HostProgram

RNG = np.random.default_rng(0)


def part_sizes(data: Dataset) -> tuple[int, int, int]:
    return len(data.x_train), len(data.x_validation), len(data.x_test)


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """MINIKIN_DATA, with an empty cache beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MINIKIN_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_groups_stay_together() -> None:
    groups = [f"speaker{i % 20}" for i in RNG.permutation(400)]
    parts = group_split(groups, (0.6, 0.2), 0)
    assert sorted(np.concatenate(parts)) == list(range(400))
    assert [len(part) for part in parts] == [240, 80, 80]
    seen = [{groups[i] for i in part} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 20
    assert seen == [{groups[::-1][i] for i in part} for part in group_split(groups[::-1], (0.6, 0.2), 0)]


# Names and paths


def test_names_and_unknown_things(tmp_path: Path) -> None:
    assert load_dataset("digits", seed=3).name == "digits"
    with pytest.raises(DataError, match="data nothing is neither a file nor one of digits, mnist"):
        load_dataset("nothing")
    with pytest.raises(UsageError, match="data digits has no option window: it has seed"):
        load_dataset("digits", window=3)
    with pytest.raises(DataError, match="holds neither wavs nor images nor CSV"):
        load_dataset(tmp_path)
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"x.txt is no kind of data"):
        load_dataset(tmp_path / "x.txt")


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "speech_commands"])
def test_absent_data_says_where_it_looked(name: str, data_folder: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}.*--download"):
        load_dataset(name)


def test_fashion_mnist(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data_folder / "fashion_mnist"
    folder.mkdir()
    small = tuple(replace(file, shape=(24, *file.shape[1:])) for file in sources.FASHION_FILES)
    for file in small:
        header = bytes((0, 0, 8, len(file.shape))) + np.array(file.shape, ">i4").tobytes()
        values = RNG.integers(0, 10, file.shape, np.uint8)
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(header + values.tobytes()))
    monkeypatch.setattr(sources, "FASHION_FILES", small)
    data = load_dataset("fashion_mnist")
    assert part_sizes(data) == (22, 2, 24)
    assert data.classes[0] == "T-shirt"


# CIFAR-10


def cifar_records(count: int) -> bytes:
    return RNG.integers(0, 10, (count, images.RECORD_BYTES), np.uint8).tobytes()


def test_cifar10_from_its_archive_and_files(data_folder: Path) -> None:
    folder = data_folder / "cifar10"
    folder.mkdir()
    batches = {name: cifar_records(4) for name in images.BATCHES}
    with tarfile.open(folder / images.ARCHIVE, "w:gz") as archive:
        for name, data in batches.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    data = load_dataset("cifar10")
    assert part_sizes(data) == (18, 2, 4)
    first = np.frombuffer(batches["data_batch_1.bin"], np.uint8)
    assert data.y_train[0] == first[0]
    assert data.x_train[0, 2, 5, 1] == np.float32(first[1 + 1024 + 2 * 32 + 5]) / 255
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    np.testing.assert_array_equal(load_dataset("cifar10").x_test, data.x_test)
    (folder / "test_batch.bin").write_bytes(b"x" * 10)
    with pytest.raises(DataError, match=r"10 bytes of test_batch.bin"):
        load_dataset("cifar10")
    for name in images.BATCHES:
        (folder / name).unlink()
    (folder / images.ARCHIVE).write_bytes((folder / images.ARCHIVE).read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset("cifar10")


def test_cifar10_from_sheets(data_folder: Path) -> None:
    folder = data_folder / "cifar10"
    folder.mkdir()
    pixels = {}
    for number in (*range(8), 49):
        pixels[number] = RNG.integers(0, 256, (5, 32, 32, 3), np.uint8)
        Image.fromarray(pixels[number].reshape(5, 1024, 3)).save(folder / f"cifar10_{number:02}.png")
        (folder / f"cifar10_{number:02}.labels.txt").write_text("\n".join("12345"))
    data = load_dataset("cifar10")
    assert part_sizes(data) == (35, 5, 5)
    np.testing.assert_array_equal(np.rint(data.x_validation * 255), pixels[7])
    np.testing.assert_array_equal(np.rint(data.x_test * 255), pixels[49])
    (folder / "cifar10_07.labels.txt").write_text("1 2")
    with pytest.raises(DataError, match=r"cifar10_07.png and cifar10_07.labels.txt do not fit"):
        load_dataset("cifar10")


def test_the_shared_sheets(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKIN_DATA", str(shared / "data"))
    data = load_dataset("cifar10")
    assert part_sizes(data) == (7000, 1000, 1000)
    assert data.sample_shape == (32, 32, 3)


# Folders of images, wavs and recordings


def test_a_folder_of_images(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            shade = np.full((6, 5, 3), 10 * i + (100 if name == "dog" else 0), np.uint8)
            Image.fromarray(shade).save(tmp_path / name / f"{i}.png")
    data = load_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert (part_sizes(data), data.sample_shape) == ((12, 4, 4), (6, 5, 3))
    np.testing.assert_array_equal(data.y_train, data.x_train[:, 0, 0, 0] >= 100 / 255)
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "cat" / "z.png")
    with pytest.raises(DataError, match=r"z.png is 6x4x1 and 0.png is 6x5x3"):
        load_dataset(tmp_path)
    (tmp_path / "cat" / "z.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"z.png is no image"):
        load_dataset(tmp_path)


def write_wavs(folder: Path, names: list[str], rate: int = 16000, seconds: float = 1.0) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(round(rate * seconds)) / rate
        tone = np.sin(2 * np.pi * (300 + 40 * i) * t) * 8000
        soundfile.write(folder / name, tone.astype(np.int16), rate)


def test_folders_of_wavs(tmp_path: Path) -> None:
    write_wavs(tmp_path, [f"{w}/{s:08x}_nohash_{i}.wav" for w in ("yes", "no") for s in range(10) for i in range(2)])
    data = load_dataset(tmp_path)
    assert data.classes == ("no", "yes")
    assert data.sample_shape == (49, 10, 1)
    assert sum(part_sizes(data)) == 40
    assert min(part_sizes(data)) >= 4
    assert data.draw is not None
    rng = np.random.default_rng
    amounts = {"time_shift": 100.0, "speed": 0.1, "background": 0.5}
    again = data.draw(np.arange(4), amounts, rng(0))
    assert again.shape == (4, 49, 10, 1)
    np.testing.assert_array_equal(again, data.draw(np.arange(4), amounts, rng(0)))
    np.testing.assert_array_equal(data.draw(np.arange(4), {}, rng(0)), data.x_train[:4])
    for name in amounts:
        assert not np.array_equal(data.draw(np.arange(4), {name: amounts[name]}, rng(0)), data.x_train[:4])
    write_wavs(tmp_path, ["yes/x.wav"], rate=8000)
    with pytest.raises(DataError, match=r"x.wav has 8000 samples a second and not 16000"):
        load_dataset(tmp_path)
    (tmp_path / "yes" / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"x.wav is no sound"):
        load_dataset(tmp_path)


def test_wavs_named_label_speaker_index(tmp_path: Path) -> None:
    write_wavs(tmp_path, [f"{d}_{s}_{i}.wav" for d in (0, 1) for s in "abcdefgh" for i in range(2)], 8000, 0.6)
    data = load_dataset(tmp_path, rate=8000)
    assert data.classes == ("0", "1")
    assert data.sample_shape == (49, 10, 1)
    write_wavs(tmp_path / "one", ["a_b_c.wav"])
    with pytest.raises(DataError, match="wavs of 1 classes"):
        load_dataset(tmp_path / "one")


def test_motion_windows(tmp_path: Path) -> None:
    for label, size in (("rest", 1), ("shake", 100)):
        (tmp_path / label).mkdir()
        for i in range(8):
            rows = [[t, *(RNG.normal(size=3) * size)] for t in range(30)]
            with open(tmp_path / label / f"{i}.csv", "w", newline="") as stream:
                csv.writer(stream).writerows([["time", "x", "y", "z"], *rows])
    data = load_dataset(tmp_path, window=10)
    assert data.sample_shape == (10, 3, 1)
    assert sum(part_sizes(data)) == 16 * 5
    assert all(size % 5 == 0 for size in part_sizes(data))
    assert np.abs(data.x_train).max() == 1
    loud = np.abs(data.x_train).max(axis=(1, 2, 3)) > 0.2
    np.testing.assert_array_equal(data.y_train, loud)
    with pytest.raises(DataError, match="no recording of 31 rows"):
        load_dataset(tmp_path, window=31)
    (tmp_path / "rest" / "z.csv").write_text("1,2\n" * 30)
    with pytest.raises(DataError, match=r"z.csv has 2 axes and .*0.csv has 3"):
        load_dataset(tmp_path, window=10)


def test_recordings_without_a_header(shared: Path) -> None:
    data = load_dataset(shared / "data" / "st_har", window=24)
    assert data.classes == ("running", "stationary", "walking")
    assert data.sample_shape == (24, 3, 1)


# Tables and arrays


def test_csv_tables(tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    rows = [f"{i},{i * 0.5},{'rose' if i % 2 else 'lily'},{i * 1.5 + 0.25}" for i in range(50)]
    path.write_text("\n".join(["a,b,kind,price", *rows]))
    table = load_dataset(path, target="kind")
    assert table.classes == ("lily", "rose")
    assert (part_sizes(table), table.sample_shape) == ((32, 8, 10), (3,))
    np.testing.assert_array_equal(table.y_train, table.x_train[:, 0] % 2)
    with pytest.raises(DataError, match="word in column kind"):
        load_dataset(path)
    with pytest.raises(DataError, match="no column colour: it has a, b, kind, price"):
        load_dataset(path, target="colour")
    price = load_dataset(path, group="kind")
    assert price.classes == ()
    np.testing.assert_allclose(price.y_train, price.x_train[:, 0] * 1.5 + 0.25)
    assert len({int(a) % 2 for a in price.x_train[:, 0]}) == 1
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match="1 columns in row 3 and 2 in row 1"):
        load_dataset(path)
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="0 rows under its header"):
        load_dataset(path)


def test_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    x, y = RNG.random((100, 4)), RNG.integers(0, 3, 100)
    np.savez(path, x=x, y=y, groups=np.repeat(np.arange(20), 5))
    data = load_dataset(path)
    assert (data.classes, data.x_train.dtype, data.y_train.dtype) == (("0", "1", "2"), np.float32, np.int64)
    assert all(size % 5 == 0 for size in part_sizes(data))
    np.savez(
        path, **{f"{a}_{p}": v[:5] for p in ("train", "validation", "test") for a, v in (("x", x), ("y", x[:, 0]))}
    )
    assert load_dataset(path).classes == ()
    np.savez(path, x=x, z=y)
    with pytest.raises(DataError, match="has the arrays x, z: give x and y"):
        load_dataset(path)
    np.savez(path, x=x, y=y[:5])
    with pytest.raises(DataError, match="100 samples in x but 5 in y"):
        load_dataset(path)
    np.savez(path, x=np.array([{}]), y=y)
    with pytest.raises(DataError, match=r"no .npz of plain arrays"):
        load_dataset(path)
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no .npz of plain arrays"):
        load_dataset(path)


# Speech Commands


def make_packed(folder: Path, count: int = 120) -> np.ndarray:
    folder.mkdir(parents=True)
    clips = RNG.integers(-3000, 3000, (count, 16000), np.int16)
    with lzma.open(folder / "train_16k.i16.xz", "wb", preset=0) as stream:
        stream.write(clips.astype("<i2").tobytes())
    with open(folder / "train_16k.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["index", "label", "class", "source_file"])
        for i in range(count):
            name = speech.CLASSES[i % 12]
            source = f"{i}" if name == "_silence_" else f"{i // 24:08x}_nohash_0"
            writer.writerow([i, i % 12, name, f"{name}/{source}.wav"])
    return clips


def test_packed_speech(data_folder: Path) -> None:
    make_packed(data_folder / "speech_commands")
    data = load_dataset("speech_commands")
    assert sum(part_sizes(data)) == 120
    official = data_folder / "mlperf_tiny" / "kws01"
    official.mkdir(parents=True)
    raw = RNG.integers(-128, 128, (3, 490)).astype(np.int8)
    for i in range(3):
        (official / f"{i}.bin").write_bytes(raw[i].tobytes())
    (official / "y_labels.csv").write_text("".join(f"{i}.bin,12,{i}\n" for i in range(3)))
    data = load_dataset("speech_commands")
    assert len(data.x_test) == 3
    assert len(data.x_train) + len(data.x_validation) == 120
    quant = Mfcc().quant
    back = np.rint(data.x_test / np.float32(quant.scale)) + quant.zero_point
    np.testing.assert_array_equal(back.reshape(3, 490), raw)
    assert data.quant == quant
    changed = data.draw(np.arange(5), {"background": 0.1}, np.random.default_rng(0)) if data.draw else data.x_train
    for x in (data.x_train, data.x_validation, changed):
        codes = x / np.float32(quant.scale)
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    (official / "2.bin").write_bytes(b"short")
    with pytest.raises(DataError, match="kws01 cannot be read"):
        load_dataset("speech_commands")
    path = data_folder / "speech_commands" / "train_16k.i16.xz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train_16k.i16.xz and train_16k.csv cannot be read"):
        load_dataset("speech_commands")


def test_usual_speech_folders(tmp_path: Path) -> None:
    names = [f"{w}/{s:08x}_nohash_0.wav" for w in ("yes", "no", "bed", "cat") for s in range(20)]
    write_wavs(tmp_path, names)
    write_wavs(tmp_path / "_background_noise_", ["hum.wav"], seconds=5)
    (tmp_path / "validation_list.txt").write_text("\n".join(n for n in names if "/00000002" in n))
    (tmp_path / "testing_list.txt").write_text("\n".join(n for n in names if n.split("/")[1] < "00000002"))
    data = load_dataset(tmp_path)
    assert data.classes == speech.CLASSES
    assert set(data.y_train) == {speech.CLASSES.index(name) for name in ("yes", "no", "_silence_", "_unknown_")}
    assert part_sizes(data) == (34 + 3 + 3, 2, 4)
    (tmp_path / "testing_list.txt").write_text("")
    with pytest.raises(DataError, match="2 / 0 clips to train"):
        load_dataset(tmp_path)


def test_the_reference_spotter_hears_our_features(shared: Path) -> None:
    """MLPerf Tiny's int8 model, as C on this machine, on the MFCC of the 3,546 clips; tf.signal's features score 92.2%."""
    clips, labels, _ = packed_clips(shared / "data" / "speech_commands")
    build = minikin.compile(load(shared / "models" / "mlperf_tiny" / "kws_ref_model.tflite"), "nano33ble")
    quant = Mfcc().quant
    assert build.graph.input_tensors[0].quant == quant
    q = np.clip(np.rint(Mfcc()(clips) / np.float32(quant.scale)) + quant.zero_point, -128, 127).astype(np.int8)
    with HostProgram(build.plan, build.model) as program:
        heard = [int(program.run([x[None]])[0][0].argmax()) for x in q]
    assert 0.919 <= np.mean(np.array(heard) == labels) <= 0.926


def test_the_official_samples(shared: Path) -> None:
    x, y = kws01(shared / "data" / "mlperf_tiny" / "kws01")
    assert x.shape == (1000, 49, 10, 1)
    assert y.min() == 0
    assert y.max() == 11


# Features


def direct_mfcc(x: np.ndarray) -> np.ndarray:
    """The definition, one frame at a time, in float64."""
    x = x / x.max()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)
    top, bottom = (1127 * np.log(1 + hz / 700) for hz in (4000, 20))
    edges = bottom + (top - bottom) * np.arange(42) / 41
    frames = []
    for start in range(0, len(x) - 479, 320):
        padded = np.concatenate([x[start : start + 480] * hann, np.zeros(32)])
        magnitude = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512) @ padded)
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            mel = 1127 * np.log(1 + np.arange(1, 257) * 31.25 / 700)
            weight = np.maximum(0, np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)))
            bands.append(np.log(weight @ magnitude[1:] + 1e-6))
        k, n = np.arange(10)[:, None], np.arange(40)
        frames.append((np.cos(np.pi * k * (2 * n + 1) / 80) @ bands) * 2 / np.sqrt(80))
    return np.array(frames)


def test_mfcc_follows_its_definition() -> None:
    x = RNG.integers(-20000, 20000, (2, 2000), np.int16)
    got = Mfcc()(x)
    assert (got.shape, got.dtype) == ((2, 5, 10, 1), np.float32)
    np.testing.assert_allclose(got[1, ..., 0], direct_mfcc(x[1].astype(float)), rtol=1e-4, atol=2e-4)
    assert Mfcc()(np.zeros((1, 16000), np.int16)).shape == (1, 49, 10, 1)
    assert np.isfinite(Mfcc()(np.zeros((1, 16000), np.int16))).all()


def test_log_mel_and_fft() -> None:
    t = np.arange(4096) / 16000
    tone = np.stack([np.sin(2 * np.pi * f * t) for f in (500, 2000)]).astype(np.float32)
    fft = Fft(window=512, step=512, fft=512)(tone)
    assert fft.shape == (2, 8, 257, 1)
    np.testing.assert_array_equal(fft[..., 0].argmax(-1), [[16] * 8, [64] * 8])
    np.testing.assert_allclose(fft.max(axis=2)[..., 0], 1.0, atol=1e-4)
    mel = LogMel()(tone)
    assert mel.shape == (2, 12, 40, 1)
    assert (mel[0].argmax(1) < mel[1].argmax(1)).all()


@pytest.mark.parametrize("make", [LogMel, Fft])
def test_quantization_covers_every_value(make: Callable[..., LogMel | Fft]) -> None:
    features = make()
    loud = np.sign(RNG.normal(size=(4, 16000))).astype(np.float32)
    for x in (np.zeros((1, 16000), np.float32), loud):
        values = features(x)
        q = np.rint(values / np.float32(features.quant.scale)) + features.quant.zero_point
        assert q.min() >= -128
        assert q.max() <= 127


def test_bad_features() -> None:
    with pytest.raises(DataError, match="shorter than one window of 480"):
        Mfcc()(np.zeros((2, 479), np.int16))
    with pytest.raises(UsageError, match="window <= fft"):
        Mfcc(window=600)
    with pytest.raises(UsageError, match="half the rate is 4000"):
        Mfcc(rate=8000, high_hz=5000)(np.zeros((1, 480), np.int16))


def test_hashes_are_of_the_right_length() -> None:
    assert {len(h) for h in (images.SHA256, speech.SHA256)} == {len(hashlib.sha256().hexdigest())}
    assert all(len(file.hash) == len("md5:") + 32 for file in sources.FASHION_FILES)
