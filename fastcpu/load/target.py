"""Where requests go: the parts of a URL, and the first address behind it that takes a connection."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fastcpu.errors import InputError

_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_PROBE_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        host: name or address, without brackets.
        port: TCP port.
        authority: host and port as the header `Host` has them.
        prefix: what paths begin with; empty, or with a slash at its beginning and none at its end.
    """

    host: str
    port: int
    authority: str
    prefix: str

    def connectable(self, timeout: float) -> str:
        """The first address of the host that takes a connection within `timeout` seconds (and within 5).

        Raises:
            InputError: the host has no address, or none of them takes a connection.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{self.authority}: the host is unknown: {reason}") from error
        reason = None
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(min(timeout, _PROBE_SECONDS))
                try:
                    probe.connect(address)
                except OSError as error:
                    reason = error.strerror or str(error)
                    continue
            return str(address[0])
        raise InputError(f"{self.authority}: no connection can be made: {reason}")


def parse_url(url: str) -> Target:
    """The parts of a URL; InputError for what is none, or has parts that no server of models needs."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url!r} is no URL: {error}") from error
    if parts.scheme == "https":
        raise InputError(f"{url!r}: https is not supported; measure the server behind what ends TLS")
    if parts.scheme != "http":
        raise InputError(f"{url!r} is no URL of a server: it must begin with http://")
    host = parts.hostname
    if not host or not _HOST.fullmatch(host) or port == 0:
        raise InputError(f"{url!r} is no URL of a server: no host, or a port that is none")
    for name, value in (("user", parts.username), ("query", parts.query), ("fragment", parts.fragment)):
        if value:
            raise InputError(f"{url!r}: a URL with a {name} is not supported")
    port = 80 if port is None else port
    shown = f"[{host}]" if ":" in host else host
    return Target(host, port, f"{shown}:{port}", quote(parts.path, safe=_PATH_SAFE).rstrip("/"))
