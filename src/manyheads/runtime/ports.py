"""Ports of this machine that a server listens at."""

from __future__ import annotations

import ipaddress
import socket

from manyheads.errors import MachineError


def bound(host: str, port: int, command: str) -> socket.socket:
    """Return a socket that is bound and does not listen yet, so that nobody else takes the port meanwhile.

    Args:
        host: Name or address of this machine.
        port: The port; 0 for any free one.
        command: The command line of the server without its port, for the error.

    Raises:
        MachineError: The port is in use, or may not be used, or the host is not this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise MachineError(f"{host!r} is no name of this machine ({error}): use --host 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)
    # As servers do: a port whose last connection has just been closed is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise MachineError(
            f"port {port} cannot be used ({reason}): stop the program that uses it, or take another one "
            f"with `{command} --port {port + 1 if port < 65535 else 8080}`"
        ) from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only programs of this machine reach a socket."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback
