"""Where something listens: TCP or a Unix socket, in each form that people write."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Address", "AddressLike", "TcpAddress", "UnixAddress", "read_address"]

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
            return given
        case (str(host), int(port), *_) if not isinstance(port, bool):
            return TcpAddress(host, _port(name, port, given))
        case str():
            return _read(name, given)
        case _:
            raise SettingTypeError(name, f"must be {FORMS}, got {given!r}")


def _read(name: str, text: str) -> Address:
    scheme, _, rest = text.partition(":")
    if scheme == "unix" and (path := rest.removeprefix("//")):
        return UnixAddress(path)
    host, colon, port = rest.removeprefix("//").rpartition(":")
    if scheme == "tcp" and rest.startswith("//") and host and colon and port.isdecimal():
        return TcpAddress(host.removeprefix("[").removesuffix("]"), _port(name, int(port), text))
    raise SettingValueError(name, f"must be {FORMS}, got {text!r}")


def _port(name: str, port: int, given: object) -> int:
    if not 0 <= port <= 65535:
        raise SettingValueError(name, f"must have a port from 0 to 65535, got {given!r}")
    return port
