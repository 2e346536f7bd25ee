"""A web server on this machine that fails on request, for tests of downloads."""

from __future__ import annotations

import io
import re
import socket
import struct
import threading
import zipfile
import zlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def make_zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


@dataclass(frozen=True)
class Reply:
    """How one request is answered; by default as a good server does.

    status: of an answer without the file. content: sent in place of the file's. ranges: whether
    parts are served, shift: added to their start. etag: None takes one made from the content, ""
    sends none. length: whether it is announced, announce: instead of the true one. after: bytes
    after which the connection is closed, or reset, or held in silence until the server stops. pace:
    seconds before each ``piece``. headers: sent besides; X-Takes is a tag taken for the file's own.
    """

    status: int = 200
    content: bytes | None = None
    ranges: bool = True
    shift: int = 0
    etag: str | None = None
    length: bool = True
    announce: int | None = None
    after: int | None = None
    reset: bool = False
    hold: bool = False
    pace: float = 0.0
    piece: int = 2**20
    headers: dict[str, str] = field(default_factory=dict)


class FileServer(ThreadingHTTPServer):
    """Serves bytes by path; the first requests of a path get its planned replies in turn.

    requests: path, first byte (None: the whole file) and headers of each. served: set once a held
    reply has sent what it was to send.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[Reply]] = defaultdict(list)
        self.usual: dict[str, Reply] = {}
        self.requests: list[tuple[str, int | None, dict[str, str]]] = []
        self.served, self.stopped = threading.Event(), threading.Event()

    def __enter__(self) -> FileServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def put(self, path: str, content: bytes, *plan: Reply, usual: Reply | None = None) -> str:
        """Serve ``content`` after the planned replies, and return its address."""
        self.files[path], self.plans[path] = content, list(plan)
        self.usual[path] = usual or Reply()
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def starts(self, path: str) -> list[int | None]:
        return [start for requested, start, _ in self.requests if requested == path]

    def handle_error(self, *_: object) -> None:
        pass  # clients that hang up are part of the tests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else None
        self.server.requests.append((path, start, dict(self.headers)))
        plan = self.server.plans[path]
        reply = plan.pop(0) if plan else self.server.usual.get(path, Reply(404))
        self.close_connection = True
        with suppress(ConnectionError):
            self._send(reply, *self._answer(reply, path, start))

    def _answer(self, reply: Reply, path: str, start: int | None) -> tuple[int, dict, bytes]:
        """Return status, headers and body of an answer."""
        if reply.status != 200:
            return reply.status, {}, b"Sorry"
        content = self.server.files[path] if reply.content is None else reply.content
        etag = f'"{zlib.crc32(content)}"' if reply.etag is None else reply.etag
        headers = {"ETag": etag} if etag else {}
        same = self.headers.get("If-Range", etag) in (etag, reply.headers.get("X-Takes", etag))
        if start is None or not reply.ranges or not same:
            return 200, headers, content
        start, size = start + reply.shift, len(content)
        if start >= size:
            return 416, headers | {"Content-Range": f"bytes */{size}"}, b""
        extent = f"bytes {start}-{size - 1}/{size}"
        return 206, headers | {"Content-Range": extent}, content[start:]

    def _send(self, reply: Reply, status: int, headers: dict[str, str], body: bytes) -> None:
        if reply.length:
            headers["Content-Length"] = str(len(body) if reply.announce is None else reply.announce)
        self.send_response(status)
        for name, value in (headers | reply.headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        body = body[: reply.after]
        for at in range(0, len(body), reply.piece):
            self.server.stopped.wait(reply.pace)
            self.wfile.write(body[at : at + reply.piece])
        if reply.hold:
            self.server.served.set()
            self.server.stopped.wait(60)
        if reply.reset:  # closing without a goodbye
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
