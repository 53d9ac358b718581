"""data/: splits, idx files, and downloads against a server that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from minikin.data import Dataset, digits, mnist, sources
from minikin.data.dataset import stratified_split
from minikin.data.download import fetch as fetch_file
from minikin.data.download import fetch_gzip, read_gzip
from minikin.errors import DataError

PLAIN = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(PLAIN).hexdigest()
PACKED = gzip.compress(PLAIN, 1)


# Splits


def test_digits_are_split_by_class() -> None:
    data = digits()
    assert data.sample_shape == (8, 8, 1)
    assert data.x_train.dtype == np.float32
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    assert [len(y) for y in (data.y_train, data.y_validation, data.y_test)] == [1149, 289, 359]
    for y in (data.y_train, data.y_validation, data.y_test):
        shares = np.bincount(y) / len(y)
        assert np.abs(shares - 0.1).max() < 0.012
    whole = np.concatenate([data.x_train, data.x_validation, data.x_test])
    assert len(np.unique(whole.reshape(len(whole), -1), axis=0)) == 1797


def test_the_seed_decides_the_split() -> None:
    np.testing.assert_array_equal(digits(3).x_test, digits(3).x_test)
    assert not np.array_equal(digits(3).y_test, digits(4).y_test)


def test_parts_are_disjoint_and_complete() -> None:
    y = np.repeat([0, 1, 5], [10, 31, 3])
    parts = stratified_split(y, (0.5, 0.25), 0)
    assert sorted(np.concatenate(parts)) == list(range(44))
    assert [np.bincount(y[p], minlength=6)[[0, 1]].tolist() for p in parts] == [[5, 16], [3, 7], [2, 8]]


def test_samples_without_labels_are_refused() -> None:
    x, y = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)
    with pytest.raises(DataError, match="toy has 3 test samples but 2 labels"):
        Dataset("toy", x, y, x, y, x, y[:2], ("a",))


# MNIST's files


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """MNIST's format with few images, found in MINIKIN_DATA; the cache is empty."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    files = []
    for file in sources.MNIST_FILES:
        file = replace(file, shape=(50 if "train" in file.name else 20, *file.shape[1:]))
        values = rng.integers(0, 256 if len(file.shape) > 1 else 10, file.shape, np.uint8)
        data = bytes((0, 0, 8, len(file.shape))) + np.array(file.shape, ">i4").tobytes() + values.tobytes()
        files.append(replace(file, hash=hashlib.sha256(data).hexdigest()))
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(data, 1))
    monkeypatch.setattr(sources, "MNIST_FILES", tuple(files))
    monkeypatch.setenv("MINIKIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_mnist_from_a_folder(small_mnist: Path) -> None:
    data = mnist()
    assert data.x_train.shape[1:] == (28, 28, 1)
    assert len(data.x_train) + len(data.x_validation) == 50
    assert data.x_test.shape == (20, 28, 28, 1)
    assert data.x_test.dtype == np.float32
    assert data.x_test.max() == 1.0
    assert data.y_test.dtype == np.int64
    plain = small_mnist / "t10k-labels-idx1-ubyte"
    plain.write_bytes(gzip.decompress(plain.with_suffix(".gz").read_bytes()))
    np.testing.assert_array_equal(mnist().y_test, data.y_test)


@pytest.mark.parametrize("damage", ["cut", "text", "longer", "another", "empty", "flipped"])
def test_damaged_mnist_files_are_named(small_mnist: Path, damage: str) -> None:
    path = small_mnist / "t10k-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    plain = gzip.decompress(packed)
    path.write_bytes(
        {
            "cut": packed[:-100],
            "text": b"not found",
            "longer": gzip.compress(plain + b"!"),
            "another": gzip.compress(b"\0\0\x08\x01" + plain[4:]),
            "empty": b"",
            "flipped": packed[:5000] + bytes(b ^ 255 for b in packed[5000:5100]) + packed[5100:],
        }[damage]
    )
    with pytest.raises(DataError, match="t10k-images") as raised:
        mnist()
    assert "\n" not in str(raised.value)


def test_absent_mnist_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MINIKIN_DATA", raising=False)
    with pytest.raises(DataError, match=r"mnist.*--download"):
        mnist()


def test_the_real_mnist(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIKIN_DATA", str(shared / "data"))
    for file in sources.MNIST_FILES:
        data = read_gzip(shared / "data" / "mnist" / f"{file.name}.gz", file.nbytes)
        assert hashlib.sha256(data).hexdigest() == file.hash
    labels = sources.MNIST_FILES[3]
    assert sources._read_idx(labels, sources._find(labels, "mnist", (), False))[:5].tolist() == [7, 2, 1, 0, 4]


# Downloads


@dataclass
class Server:
    """Serves `files`; `cut` sends only so many bytes of the next answer, and then hangs up."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append((self.path, wanted))
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            stop, state.cut = (start + state.cut if state.cut is not None else None), None
            self.wfile.write(data[start:stop])

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}"
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetch(server: Server, folder: Path, *paths: str, sha256: str = SHA256) -> Path:
    urls = [server.url + path for path in paths or ("/x.gz",)]
    return fetch_gzip(urls, sha256, len(PLAIN), folder / "x")


def test_a_download_is_unpacked_and_kept(server: Server, tmp_path: Path) -> None:
    server.files["/x.gz"] = PACKED
    assert fetch(server, tmp_path / "new").read_bytes() == PLAIN
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x"]
    fetch(server, tmp_path / "new")
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.files["/x.gz"], server.cut, server.ranges = PACKED, 100_000, ranges
    with pytest.raises(DataError, match="broke after 100,000 of"):
        fetch(server, tmp_path)
    assert not (tmp_path / "x").exists()
    assert fetch(server, tmp_path).read_bytes() == PLAIN
    assert [r for _, r in server.requests] == [None, "bytes=100000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_complete_part_is_used(server: Server, tmp_path: Path) -> None:
    server.files["/x.gz"], server.cut = PACKED, 100_000
    with pytest.raises(DataError):
        fetch(server, tmp_path)
    (part,) = tmp_path.iterdir()
    part.write_bytes(PACKED)
    assert fetch(server, tmp_path).read_bytes() == PLAIN


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (gzip.compress(PLAIN[:-1] + b"!", 1), "hash"),
        (gzip.compress(PLAIN + b"!", 1), "more than the expected"),
        (PLAIN * 3, "more than the expected"),
        (PACKED[:-9], "."),
        (b"<html>log in</html>", "hash"),
    ],
)
def test_wrong_bytes_are_not_kept(server: Server, tmp_path: Path, served: bytes, words: str) -> None:
    server.files["/x.gz"] = served
    with pytest.raises(DataError, match=words) as raised:
        fetch(server, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x").exists()
    server.files["/x.gz"] = PACKED
    for part in tmp_path.iterdir():
        part.unlink()
    assert fetch(server, tmp_path).read_bytes() == PLAIN


def test_the_next_mirror_is_tried(server: Server, tmp_path: Path) -> None:
    server.files |= {"/bad.gz": b"bad", "/x.gz": PACKED}
    assert fetch(server, tmp_path, "/absent.gz", "/bad.gz", "/x.gz").read_bytes() == PLAIN


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x could not be downloaded.*put the file into") as raised:
        fetch_gzip(["http://127.0.0.1:1/x.gz"], SHA256, len(PLAIN), tmp_path / "x")
    assert "\n" not in str(raised.value)


def test_files_are_kept_as_they_are_served(server: Server, tmp_path: Path) -> None:
    server.files["/x.gz"] = PACKED
    md5 = hashlib.md5(PACKED).hexdigest()
    assert fetch_file([f"{server.url}/x.gz"], f"md5:{md5}", len(PACKED), tmp_path / "x.gz").read_bytes() == PACKED
    assert [p.name for p in tmp_path.iterdir()] == ["x.gz"]
    with pytest.raises(DataError, match="hash"):
        fetch_file([f"{server.url}/x.gz"], "md5:" + "0" * 32, len(PACKED), tmp_path / "y.gz")


def test_mnist_downloads_what_is_missing(
    server: Server, small_mnist: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = mnist().x_test
    monkeypatch.setattr(sources, "MNIST_MIRRORS", (f"{server.url}/",))
    missing = small_mnist / "t10k-images-idx3-ubyte.gz"
    server.files[f"/{missing.name}"] = missing.read_bytes()
    missing.unlink()
    np.testing.assert_array_equal(mnist(download=True).x_test, wanted)
    np.testing.assert_array_equal(mnist().x_test, wanted)
    assert len(server.requests) == 1
