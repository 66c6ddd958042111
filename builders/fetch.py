"""Download one file: checked, unpacked, put in place whole or not at all, and remembered."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from chorus_store.errors import InputError

LEDGER = "observed.json"
#: Seconds to connect, and between two packets.
TIMEOUT = (5, 60)
#: Seconds after which a host that has not answered at all counts as unreachable.
PROBE_SECONDS = 8.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
#: Connection, status and disk (OSError), checksum (ValueError), archive.
_FAILURES = (OSError, ValueError, EOFError, zlib.error, tarfile.TarError)

log = logging.getLogger("chorus.resources")


@dataclass(frozen=True)
class Resource:
    """A public file.

    Attributes
    ----------
    title : str
        Name for people.
    url : str
        Where it is published; https only.
    file_name : str
        In the data directory, after unpacking.
    size : str
        Of the download, for people.
    licence : str
        Short name.
    checksum : str or None
        Of the download, ``md5:…`` or ``sha256:…``; None where the publisher states none.
    unpack : str
        ``gunzip``, ``untar`` (the file name is then a folder), or empty.
    """

    title: str
    url: str
    file_name: str
    size: str
    licence: str
    checksum: str | None = None
    unpack: Literal["", "gunzip", "untar"] = ""


class DownloadError(Exception):
    """Why a file could not be had; `builders.resources.resolve` tells the user."""


def unreachable(urls: Mapping[str, str]) -> dict[str, str]:
    """Reasons why addresses cannot be reached, by the key of the address; all are tried at the same time.

    A machine without a network can take a minute to say so, host by host; this bounds it to `PROBE_SECONDS`
    in all. Any answer counts as reached, an error status too: not every server likes HEAD.
    """
    found: dict[str, str] = {}

    def probe(key: str, url: str) -> None:
        try:
            _check_scheme(url)
            requests.head(url, timeout=TIMEOUT[0], allow_redirects=False).close()
            found[key] = ""
        except (requests.RequestException, DownloadError) as error:
            found[key] = _reason(error, url)

    # Daemons, so that a name look-up that hangs does not hold the process.
    threads = [threading.Thread(target=probe, args=item, daemon=True) for item in urls.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    silent = f"no answer within {PROBE_SECONDS:.0f} s"
    return {key: reason for key in urls if (reason := found.get(key, silent))}


def download(resource: Resource, folder: Path) -> Path:
    """Fetch, check, unpack and put in place.

    Parameters
    ----------
    resource : Resource
    folder : Path
        The data directory; created if need be.

    Returns
    -------
    Path
        ``folder / resource.file_name``.

    Raises
    ------
    DownloadError
        With the reason: the connection, the server's status, the checksum, the archive, or the disk. Nothing
        is left.
    """
    target = folder / resource.file_name
    remembered = _read_ledger(folder).get(resource.file_name, {})
    checksum = resource.checksum or remembered.get("download")
    log.info("downloading %s (%s) from %s", resource.title, resource.size, resource.url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the last step is a rename; whatever stops this, the folder goes.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            archive = _get(resource, Path(partial), checksum)
            observed = f"sha256:{pooch.file_hash(str(archive))}"
            _unpacked(archive, resource.unpack).replace(target)
        _remember(folder, resource, target, observed)
    except _FAILURES as error:
        raise DownloadError(_reason(error, resource.url)) from error
    return target


def verified(resource: Resource, folder: Path, option: str) -> Path:
    """A file of the data directory, if it still is what was downloaded.

    The digest is computed again only when size or time of change differ from the recorded ones. A file that
    was put there by hand is recorded as it is.

    Raises
    ------
    InputError
        The file has changed.
    """
    target = folder / resource.file_name
    entry = _read_ledger(folder).get(resource.file_name)
    if entry is not None and entry["stamp"] == _stamp(target):
        return target
    pinned = None if resource.unpack else resource.checksum  # that of the archive says nothing about its content
    expected = entry["sha256"] if entry else pinned
    if expected and not _matches(target, expected):
        raise InputError(
            f"{target} is not what was downloaded from {resource.url} (its checksum is not {expected}); "
            f"delete it to download it again, or give a file of your own with --{option} PATH"
        )
    try:
        _remember(folder, resource, target, entry["download"] if entry else None)
    except OSError as error:  # a folder that others look after
        log.info("cannot record %s in %s: %s", target.name, folder / LEDGER, error)
    return target


def _get(resource: Resource, folder: Path, checksum: str | None) -> Path:
    _check_scheme(resource.url)
    pooch.get_logger().setLevel(logging.WARNING)
    # Quiet where standard error is no terminal. Pooch asks for the bar's truth before it sets the total.
    with tqdm(desc=resource.file_name, total=1, unit="B", unit_scale=True, disable=None) as bar:
        downloader = pooch.HTTPDownloader(
            progressbar=bar, chunk_size=2**20, timeout=TIMEOUT, hooks={"response": _check_redirect}
        )
        file = pooch.retrieve(resource.url, checksum, fname="download", path=folder, downloader=downloader)
    return Path(file)


def _unpacked(archive: Path, how: str) -> Path:
    product = archive.with_name("unpacked")
    if how == "gunzip":
        with gzip.open(archive, "rb") as source, product.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**22)
    elif how == "untar":
        with tarfile.open(archive) as tar:
            tar.extractall(product, filter="data")
    else:
        return archive
    return product


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DownloadError(f"{url} is not https")


def _check_redirect(response: requests.Response, **_: Any) -> None:
    if response.is_redirect:
        _check_scheme(urljoin(response.url, response.headers["location"]))


def _reason(error: Exception, url: str) -> str:
    """One line for people."""
    host = urlsplit(url).netloc
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{host} answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"{host} does not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no trusted connection to {host}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {host} broke off; try again"
    if isinstance(error, requests.ConnectionError):
        return f"cannot connect to {host}"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "what came has another checksum than the pinned or the recorded one; nothing was kept"
    return str(error) or type(error).__name__


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and files."""
    if path.is_file():
        return f"sha256:{pooch.file_hash(str(path))}"
    sha = hashlib.sha256()
    for file in _files(path):
        sha.update(f"{file.relative_to(path).as_posix()} {pooch.file_hash(str(file))}\n".encode())
    return f"sha256:{sha.hexdigest()}"


def _matches(path: Path, expected: str) -> bool:
    algorithm, _, digest = expected.partition(":")
    if algorithm == "sha256":
        return _digest(path) == expected
    return bool(pooch.file_hash(str(path), alg=algorithm) == digest)


def _stamp(path: Path) -> list[int]:
    """Number of files, their bytes, and the last change: what tells cheaply that nothing happened."""
    stats = [file.stat() for file in _files(path)]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _read_ledger(folder: Path) -> dict[str, Any]:
    try:
        ledger: dict[str, Any] = json.loads((folder / LEDGER).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{folder / LEDGER} is damaged ({error}); delete it, and files are recorded anew") from error
    return ledger


def _remember(folder: Path, resource: Resource, target: Path, download_checksum: str | None) -> None:
    """Record what a file is; two processes at once write the same entry."""
    ledger = _read_ledger(folder)
    ledger[resource.file_name] = {
        "url": resource.url,
        "download": download_checksum,
        "sha256": _digest(target),
        "stamp": _stamp(target),
    }
    partial = folder / f".{LEDGER}.{os.getpid()}"
    partial.write_text(json.dumps(ledger, indent=2, sort_keys=True) + "\n")
    partial.replace(folder / LEDGER)
