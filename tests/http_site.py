"""A real HTTP server on the loopback interface, with files, redirects and broken connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Site:
    """What the server answers, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.gets: list[str] = []


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self.send_error(405)  # as some real servers do

    def do_GET(self) -> None:
        site, path = self.site, self.path
        site.gets.append(path)
        if path in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[path])
            self.end_headers()
        elif path not in site.files:
            self.send_error(404)
        else:
            body = site.files[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if path in site.broken else body)

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
    server.shutdown()
    server.server_close()
    thread.join()
