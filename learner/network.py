"""Which network interface gloo has to use where ranks are on several machines."""

import os
import socket
from collections.abc import Mapping, Sequence

import psutil


def use_reachable_interface(node_address: str) -> None:
    """Tell gloo the interface that carries `node_address`, where it would choose one the other nodes cannot reach."""
    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    try:
        chosen = socket.gethostbyname(socket.gethostname())
    except OSError:
        chosen = ""
    interfaces = {name: [each.address for each in found] for name, found in psutil.net_if_addrs().items()}
    if name := interface_to_set(node_address, chosen, interfaces):
        os.environ["GLOO_SOCKET_IFNAME"] = name


def interface_to_set(node_address: str, chosen: str, interfaces: Mapping[str, Sequence[str]]) -> str | None:
    """Name of the interface that carries `node_address`; None where gloo's own choice, the address `chosen` that the
    host's name resolves to, is that address anyway, or where no interface carries it."""
    if chosen == node_address:
        return None
    return next((name for name, addresses in interfaces.items() if node_address in addresses), None)
