"""The report of a run over HTTP, on this machine alone: `python -m launch.report RUN --serve`."""

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from launch.report import render
from launch.run_folder import METRICS, RunFolderError, read_metrics

HOST = "127.0.0.1"
REFRESH_S = 10
# A page elsewhere whose name resolves to this machine is refused: its requests carry its name.
NAMES = (HOST, "localhost")


class Page:
    """The page of a run, drawn again only where its metrics have grown; several readers share it."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._drawn: tuple[tuple[int, int], bytes] | None = None

    def content(self) -> bytes:
        """Raises RunFolderError where the folder holds no run."""
        with self._lock:
            file = self._folder / METRICS
            if not file.is_file():
                read_metrics(self._folder)
            state = (file.stat().st_size, file.stat().st_mtime_ns)
            if self._drawn is None or self._drawn[0] != state:
                refresh = f'<meta charset="utf-8">\n<meta http-equiv="refresh" content="{REFRESH_S}">'
                self._drawn = state, render(self._folder).replace('<meta charset="utf-8">', refresh, 1).encode()
            return self._drawn[1]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, page: Page, *arguments):
        self._page = page
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in NAMES:
            self.send_error(403)
        elif self.path != "/":
            self.send_error(404)
        else:
            try:
                content = self._page.content()
            except RunFolderError as error:
                self.send_error(503, explain=str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *arguments) -> None:
        """A line per request helps nobody."""


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Listens already. Raises RunFolderError where the folder holds no run, OSError where the port is taken."""
    read_metrics(folder)
    server = ThreadingHTTPServer((HOST, port), partial(_Handler, Page(folder)))
    server.daemon_threads = True
    return server


def serve(folder: Path, port: int) -> None:
    """Until Ctrl-C."""
    with make_server(folder, port) as server:
        print(f"http://{HOST}:{server.server_address[1]}/ follows {folder}; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
