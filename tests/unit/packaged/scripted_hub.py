"""A Hugging Face hub on 127.0.0.1 that has the files it is given and fails as it is told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`files` by owner/repo/path; `status` is answered instead of them; `seen` has (host, method, path, token).

    `cut_at` bytes of a file are sent before the connection ends, `lie` is told as the digest, `moved` sends downloads
    to another name of this host. With `stalls` set, a download stops in its middle until `free` is set.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    status: int = 0
    cut_at: int | None = None
    lie: str = ""
    moved: bool = False
    stalls: bool = False
    is_stalled: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def scripted_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            host = self.headers.get("Host", "")
            hub.seen.append((host, self.command, self.path, self.headers.get("Authorization", "")))
            key = self._key()
            if hub.status or key is None:
                self._send(hub.status or 404, {}, b"", with_body=False)
                return
            content = hub.files[key]
            etag = hub.lie or hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
            if hub.moved and host.startswith("127.0.0.1"):
                linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
                place = f"http://localhost:{hub.port}{self.path}"
                self._send(302, {**headers, **linked, "Location": place}, b"", with_body=with_body)
                return
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self._send(206 if start else 200, headers, content[start:], with_body=with_body)

        def _key(self) -> str | None:
            before, found, after = self.path.strip("/").partition("/resolve/")
            revision, _, path = after.partition("/")
            key = f"{before}/{path}"
            return key if found and revision in ("main", "v1", hub.commit) and key in hub.files else None

        def _send(self, status: int, headers: dict[str, str], body: bytes, *, with_body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body and hub.cut_at is not None:
                self.wfile.write(body[: hub.cut_at])
                self.wfile.flush()
                hub.status = 500
                self.close_connection = True
            elif with_body and hub.stalls:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                hub.is_stalled.set()
                hub.free.wait(60)
            elif with_body:
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.free.set()
            server.shutdown()
            thread.join()
