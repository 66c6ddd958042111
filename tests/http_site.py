"""A real HTTP server on the loopback interface: files and byte ranges of them, redirects, refusals, silence."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Site:
    """What the server answers, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.status: int | None = None  # of every answer, instead of a file
        self.ranges = True  # whether it knows byte ranges
        self.answers = threading.Event()  # cleared, it accepts requests and says nothing
        self.answers.set()
        self.gets: list[str] = []
        self.sent = 0  # bytes of files

    def add(self, folder: Path) -> str:
        """Serve what is in a folder, under its name; returns its URL."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.files[f"/{file.relative_to(folder.parent)}"] = file.read_bytes()
        return f"{self.url}/{folder.name}"

    def clear_counts(self) -> None:
        self.gets.clear()
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self.send_error(405)  # as some real servers do

    def do_GET(self) -> None:
        site, path = self.site, self.path
        site.gets.append(path)
        site.answers.wait()
        if site.status is not None:
            self.send_error(site.status)
        elif path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[path])
            self.end_headers()
        elif path not in site.files:
            self.send_error(404)
        else:
            self.send_file(site.files[path], path in site.broken)

    def send_file(self, body: bytes, broken: bool) -> None:
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted and self.site.ranges:
            first, last = wanted.groups()
            size = len(body)
            start = int(first) if first else max(0, size - int(last))
            if start >= size:
                self.send_error(416)
                return
            body = body[start : int(last) + 1] if first and last else body[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.site.sent += len(body)  # before the client can know: it may clear the counts at once
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if broken else body)

    def log_message(self, *args: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def site() -> Iterator[Site]:
    handler = type("SiteHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.site = Site(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler.site  # type: ignore[attr-defined]
    handler.site.answers.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()
