"""Where something listens: TCP or a Unix socket, in each form that people write."""

from __future__ import annotations

import sys
from typing import NamedTuple, TypeAlias

from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Address", "AddressLike", "TcpAddress", "UnixAddress", "read_address"]

# What the address of a Unix socket has room for (unix(7): 108 bytes, the last one 0; elsewhere 104).
LONGEST_PATH = 107 if sys.platform == "linux" else 103
FORMS = '"tcp://127.0.0.1:8000", "unix:/run/app.sock" or ("127.0.0.1", 8000)'


class TcpAddress(NamedTuple):
    """A host and a port: the pair that ``socket.create_connection`` takes."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as text, with the scheme."""
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


class UnixAddress(str):
    """The path of a Unix socket: the text that ``socket.connect`` takes."""

    __slots__ = ()

    @property
    def url(self) -> str:
        """The address as text, with the scheme."""
        return f"unix:{self}"


Address: TypeAlias = TcpAddress | UnixAddress
AddressLike: TypeAlias = str | tuple[str, int] | Address


def read_address(name: str, given: object) -> Address:
    """An address from a text or a pair.

    Args:
        name: the setting's name, for the error.
        given: ``"tcp://host:port"`` (IPv6 in brackets), ``"unix:/path"``, ``(host, port)``, or an address.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    match given:
        case UnixAddress() if given:
            return _path(name, given)
        case (str(host), int(port), *_) if not isinstance(port, bool):
            return TcpAddress(host, _port(name, port, given))
        case str():
            return _read(name, given)
        case _:
            raise SettingTypeError(name, f"must be {FORMS}, got {given!r}")


def _read(name: str, text: str) -> Address:
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and (path := rest.removeprefix("//")):
        return _path(name, path)
    host, colon, port = rest.removeprefix("//").rpartition(":")
    if scheme == "tcp" and rest.startswith("//") and host and colon and port.isdecimal():
        return TcpAddress(host.removeprefix("[").removesuffix("]"), _port(name, int(port), text))
    raise SettingValueError(name, f"must be {FORMS}, got {text!r}")


def _path(name: str, path: str) -> UnixAddress:
    if path.startswith(("\0", "@")):
        problem = f"must be the path of a file, not the name of an abstract Unix socket, got {path!r}"
        raise SettingValueError(name, f"{problem}; a file of such a name is './{path.lstrip(chr(0))}'")
    size = len(path.encode(errors="surrogateescape"))
    if size > LONGEST_PATH:
        raise SettingValueError(name, f"must have a path of at most {LONGEST_PATH} bytes, got {size}: {path!r}")
    return UnixAddress(path)


def _port(name: str, port: int, given: object) -> int:
    if not 0 <= port <= 65535:
        raise SettingValueError(name, f"must have a port from 0 to 65535, got {given!r}")
    return port
