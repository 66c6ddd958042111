"""Download one file: checked, unpacked, put in place whole or not at all, and remembered."""

from __future__ import annotations

import gzip
import importlib.metadata
import logging
import shutil
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from builders import ledger

#: Seconds to connect, and between two packets.
TIMEOUT = (5, 60)
#: Seconds after which a host that has not answered at all counts as unreachable.
PROBE_SECONDS = 8.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
#: Connection, status and disk (OSError), checksum (ValueError), archive (KeyError: a member that is not in it).
_FAILURES = (OSError, ValueError, EOFError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)

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
        ``gunzip``, ``untar`` (the file name is then a folder), ``wheel`` (of which ``member`` is kept), ``by hand``
        (the address is a page where people find the files, which go into a folder of this name), or empty.
    member : str
        Path of the file in the wheel of a Python package; where the package is installed, its file is used.
    """

    title: str
    url: str
    file_name: str
    size: str
    licence: str
    checksum: str | None = None
    unpack: Literal["", "gunzip", "untar", "wheel", "by hand"] = ""
    member: str = ""

    @property
    def package(self) -> tuple[str, str]:
        """Name and version of the package whose wheel this is."""
        name, version, *_ = PurePosixPath(urlsplit(self.url).path).name.split("-")
        return name, version


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
        With the reason: files that are to be got by hand, the connection, the server's status, the checksum, the
        archive, or the disk. Nothing is left.
    """
    if resource.unpack == "by hand":
        raise DownloadError("not a single file; get it by hand")
    target = folder / resource.file_name
    remembered = ledger.read(folder).get(resource.file_name, {})
    checksum = resource.checksum or remembered.get("download")
    log.info("downloading %s (%s) from %s", resource.title, resource.size, resource.url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the last step is a rename; whatever stops this, the folder goes.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            archive = _get(resource, Path(partial), checksum)
            observed = f"sha256:{pooch.file_hash(str(archive))}"
            _unpacked(archive, resource).replace(target)
        ledger.remember(folder, resource, target, observed)
    except _FAILURES as error:
        raise DownloadError(_reason(error, resource.url)) from error
    return target


def installed(resource: Resource) -> Path | None:
    """The file of a wheel where the package is installed in the version that is registered."""
    if resource.unpack != "wheel":
        return None
    name, version = resource.package
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    file = Path(str(package.locate_file(resource.member)))
    return file if package.version == version and file.is_file() else None


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


def _unpacked(archive: Path, resource: Resource) -> Path:
    product = archive.with_name("unpacked")
    if resource.unpack == "gunzip":
        with gzip.open(archive, "rb") as source, product.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**22)
    elif resource.unpack == "untar":
        with tarfile.open(archive) as tar:
            tar.extractall(product, filter="data")
    elif resource.unpack == "wheel":
        with zipfile.ZipFile(archive) as wheel, wheel.open(resource.member) as source, product.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**22)
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
