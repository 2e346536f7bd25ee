"""A web server on this machine that fails on request, for tests of downloads."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """How one request is answered; by default as a good server does.

    status: of an answer without the file, such as 404. content: sent in place of the file's.
    ranges: whether parts are served. shift: added to the start of a part. etag: None takes one made
    from the content, "" sends none. length: whether it is announced; announce: instead of the true
    one. after: bytes of the body after which the connection is closed, with a reset if ``reset``,
    or, if ``hold``, kept open in silence until the server stops. pace: seconds before each
    ``piece`` of the body. headers: sent besides.
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


@dataclass(frozen=True)
class Asked:
    """A request: path, the byte it asked to start from (None: the whole file), its headers."""

    path: str
    start: int | None
    headers: dict[str, str]


class FileServer:
    """Serves bytes by path; the first requests of a path get its planned replies in turn.

    asked: the requests so far. served: is set once a held reply has sent what it was to send.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[Reply]] = defaultdict(list)
        self.usual: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self.served, self.stopped = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def put(self, path: str, content: bytes, *plan: Reply, usual: Reply | None = None) -> str:
        """Serve ``content`` after the planned replies, and return its address."""
        self.files[path], self.plans[path] = content, list(plan)
        self.usual[path] = usual or Reply()
        return f"{self.url}/{path}"

    def starts(self, path: str) -> list[int | None]:
        return [asked.start for asked in self.asked if asked.path == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        files, path = self.files, self.path.lstrip("/").partition("?")[0]
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        with files.lock:
            start = int(match[1]) if match else None
            files.asked.append(Asked(path, start, dict(self.headers)))
            plan = files.plans[path]
            reply = plan.pop(0) if plan else files.usual.get(path, Reply(404))
        self.close_connection = True
        with suppress(ConnectionError):
            self._answer(reply, path, start)

    def _answer(self, reply: Reply, path: str, start: int | None) -> None:
        if reply.status != 200:
            body = b"something else than the file"
            self._head(reply, reply.status, {"Content-Length": str(len(body))})
            self.wfile.write(body)
            return
        content = self.files.files[path] if reply.content is None else reply.content
        etag = reply.etag
        if etag is None:
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"ETag": etag} if etag else {}
        stamps = {etag, reply.headers.get("Last-Modified", etag)}
        same = self.headers.get("If-Range", etag) in stamps
        status, body = 200, content
        if start is not None and reply.ranges and same:
            start += reply.shift
            if start >= len(content):
                headers["Content-Range"] = f"bytes */{len(content)}"
                self._head(reply, 416, headers | {"Content-Length": "0"})
                return
            status, body = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if reply.length:
            headers["Content-Length"] = str(len(body) if reply.announce is None else reply.announce)
        self._head(reply, status, headers)
        self._body(reply, body)

    def _head(self, reply: Reply, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | reply.headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, reply: Reply, body: bytes) -> None:
        body = body if reply.after is None else body[: reply.after]
        for at in range(0, len(body), reply.piece):
            if reply.pace:
                self.files.stopped.wait(reply.pace)
            self.wfile.write(body[at : at + reply.piece])
        if reply.hold:
            self.files.served.set()
            self.files.stopped.wait(60)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # clients that hang up are part of the tests

    def shutdown_request(self, request: socket.socket) -> None:
        # The base class first says goodbye, which a reset does not.
        linger = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        if struct.unpack("ii", linger)[0]:
            self.close_request(request)
        else:
            super().shutdown_request(request)


@contextmanager
def file_server() -> Iterator[FileServer]:
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    handler.files = FileServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield handler.files
    finally:
        handler.files.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
