"""Downloads: hashed, cached, resumed where they broke off."""

from __future__ import annotations

import gzip
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

from minikin.errors import DataError

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 16
SLACK_BYTES = 1 << 16  # gzip's own headers, on data that cannot be packed


def fetch_gzip(urls: Sequence[str], sha256: str, unpacked_bytes: int, target: Path) -> Path:
    """The unpacked file at `target`, downloaded from the first of `urls` that gives the right bytes.

    The hash is that of the unpacked bytes, as mirrors pack differently. What arrived before a connection broke stays in
    a .part file beside it, one for each URL, and the next call goes on from there. Raises DataError.
    """
    return _fetch(urls, sha256, target, unpacked_bytes, unpack=True)


def fetch(urls: Sequence[str], known_hash: str, limit: int, target: Path) -> Path:
    """The file at `target` as it is served, of at most `limit` bytes; else as `fetch_gzip`. `known_hash` may be "md5:..."."""
    return _fetch(urls, known_hash, target, limit, unpack=False)


def _fetch(urls: Sequence[str], known_hash: str, target: Path, limit: int, unpack: bool) -> Path:
    import pooch

    def download(url: str, output: Any, _: Any) -> None:
        _download(url, Path(str(output)), target, limit, unpack)

    problem = ""
    for url in urls:
        try:
            pooch.retrieve(
                url,
                known_hash=known_hash,
                fname=target.name,
                path=target.parent,
                downloader=cast(Any, download),  # its protocol's parameter names are not the ones that are passed
            )
            return target
        except (OSError, EOFError, HTTPException, zlib.error, ValueError) as error:
            problem = f"{url}: {_first_line(error)}"
    raise DataError(
        f"{target.name} could not be downloaded ({problem}): try again, or put the file into {target.parent}"
    )


def read_gzip(path: Path, limit: int) -> bytes:
    """The unpacked bytes, plain or gzip by their magic. A file that unpacks to more than `limit` is refused."""
    try:
        with open(path, "rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({_first_line(error)}): fetch it again") from error
    if len(data) > limit:
        raise DataError(f"{path} unpacks to more than the expected {limit:,} bytes: fetch it again")
    return data


def _download(url: str, output: Path, target: Path, limit: int, unpack: bool) -> None:
    """pooch's downloader: `url` to `output`, by way of a .part file that outlives a broken connection."""
    part = target.with_name(f"{target.name}.{zlib.crc32(url.encode()):08x}.part")
    _receive(url, part, limit + SLACK_BYTES)
    if not unpack:
        part.replace(output)
        return
    try:
        output.write_bytes(read_gzip(part, limit))
    except DataError as error:
        raise ValueError(str(error)) from error
    finally:
        part.unlink()  # complete, so never to be resumed


def _receive(url: str, part: Path, limit: int) -> None:
    """Append to `part` what it lacks of `url`; a server that ignores Range sends the whole file again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing, or the file changed: the hash tells
            return
        raise
    with response, open(part, "ab" if response.status == 206 else "wb") as stream:
        expected = stream.tell() + int(response.headers.get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            stream.write(chunk)
            if stream.tell() > limit:
                raise OSError(f"it sends more than the expected {limit:,} bytes")
        if stream.tell() < expected:
            raise OSError(f"the connection broke after {stream.tell():,} of {expected:,} bytes")


def _first_line(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return (str(reason).strip() or type(error).__name__).splitlines()[0]
