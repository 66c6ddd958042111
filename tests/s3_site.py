"""A real S3 server (moto's) on the loopback interface, which counts what it sends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Bucket:
    """A bucket named ``backgrounds``, and what was read from it."""

    def __init__(self, endpoint: str) -> None:
        self.options = {"endpoint_url": endpoint, "key": "key", "secret": "secret"}
        self.gets: list[str] = []
        self.sent = 0  # bytes of objects

    def add(self, path: Path) -> str:
        """Upload a file or a folder under its name; returns its URL."""
        files = s3fs.S3FileSystem(**self.options, skip_instance_cache=True)
        files.mkdirs("backgrounds", exist_ok=True)
        files.put(str(path), f"backgrounds/{path.name}", recursive=True)
        self.clear_counts()
        return f"s3://backgrounds/{path.name}"

    def clear_counts(self) -> None:
        self.gets.clear()
        self.sent = 0

    def counting(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """A WSGI application that answers as the given one."""

        def answer(environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            body = list(application(environment, start_response))
            self.gets.append(f"{environment['REQUEST_METHOD']} {environment['PATH_INFO']}")
            self.sent += sum(map(len, body))
            return body

        return answer


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = make_server("127.0.0.1", 0, lambda *request: [], threaded=True)
    contents = Bucket(f"http://127.0.0.1:{server.server_port}")
    server.app = contents.counting(DomainDispatcherApplication(create_backend_app))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield contents
    server.shutdown()
    server.server_close()
    thread.join()
