"""A local server for the verifier remote that misbehaves as its script says."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number = len(self.server.received)
            self.server.received.append((dict(self.headers), json.loads(body)))
        script = self.server.script
        with contextlib.suppress(OSError):  # the client may have gone
            script[min(number, len(script) - 1)](self)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    """`script`: what becomes of each request in turn, the last for all that follow. `received`: headers and bodies."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *script: Step):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.received: list[tuple[dict[str, str], Any]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()  # ends those steps that would go on for ever

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/judge"

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def serving(*script: Step) -> Iterator[Server]:
    server = Server(*script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def reply(status: int, body: str | bytes, **headers: str) -> Step:
    content = body if isinstance(body, bytes) else body.encode()

    def step(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return step


def verdict(score: float, **fields: Any) -> Step:
    return reply(200, json.dumps({"score": score, **fields}))


def silence(handler: Handler) -> None:
    handler.server.over.wait(30)


def drip(handler: Handler) -> None:
    """A header that never ends, a byte at a time: no single read waits long."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def hang_up_half_way(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n{"score": 1')
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while not handler.server.over.is_set():
        handler.wfile.write(b"x" * 65536)
