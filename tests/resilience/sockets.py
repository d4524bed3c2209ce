"""Which sockets the processes of a run listen on."""

import socket

import psutil


def speaks_http(address: str, port: int) -> bool:
    """Whether an HTTP server answers; gRPC and stores of torch do not speak its first version."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.settimeout(5)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(5).startswith(b"HTTP/")
    except OSError:
        return False


def listening(pid: int) -> list[tuple[str, str, bool]]:
    """Name, address and whether HTTP is spoken there, for a process and all that came of it."""
    found = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            name, connections = process.name(), process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        for each in connections:
            if each.status == psutil.CONN_LISTEN:
                address = each.laddr.ip.removeprefix("::ffff:")
                reachable = "127.0.0.1" if address in ("0.0.0.0", "::") else address
                found.append((name, address, speaks_http(reachable, each.laddr.port)))
    return found
