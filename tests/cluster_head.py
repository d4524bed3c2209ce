"""A Ray head of the tests' own: ports that are free, token authentication, dashboard on loopback, temp folder given."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

START_S = 90.0


@dataclass(frozen=True)
class Head:
    """A running head.

    dashboard  its address
    gcs        address for cluster.address
    environ    the environment of processes that may join: this one's, with the token
    """

    dashboard: str
    gcs: str
    environ: dict[str, str]
    process: psutil.Process

    def guests(self) -> list[str]:
        """Command lines of the processes that jobs left on the head."""
        lines = []
        for child in self.process.children(recursive=True):
            try:
                lines.append(" ".join(child.cmdline()))
            except psutil.NoSuchProcess:
                continue
        return [line for line in lines if any(word in line for word in ("launch.", "EngineActor", "LearnerWorker"))]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def running_head(cpus: int) -> Iterator[Head]:
    """Start a head, and end every process of it."""
    # Ray puts sockets into its folder, and a socket's path is at most 107 characters long.
    with tempfile.TemporaryDirectory(prefix="head-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        gcs, dashboard, client, agent, metrics = free_ports(5)
        ports = {"port": gcs, "dashboard-port": dashboard, "ray-client-server-port": client}
        ports |= {"dashboard-agent-listen-port": agent, "metrics-export-port": metrics}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--num-cpus={cpus}", f"--temp-dir={folder}/ray", "--dashboard-host=127.0.0.1"]
        command += ["--object-store-memory=200000000", *(f"--{name}={port}" for name, port in ports.items())]
        log = Path(folder) / "head.log"
        with open(log, "w") as out:
            process = subprocess.Popen(command, env=environ, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        family = psutil.Process(process.pid)
        try:
            _wait_for(f"http://127.0.0.1:{dashboard}", token.read_text(), process, log)
            yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", environ, family)
        finally:
            members = [*family.children(recursive=True), family]
            process.terminate()
            _, left = psutil.wait_procs(members, timeout=15)
            for each in left:
                each.kill()
            psutil.wait_procs(left, timeout=5)
            process.wait()


def _wait_for(url: str, token: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            answer = requests.get(f"{url}/api/version", headers={"Authorization": f"Bearer {token}"}, timeout=5)
            if answer.ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.5)
    raise TimeoutError(log.read_text())
