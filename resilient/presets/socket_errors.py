"""``presets.sockets``: the standard library's network errors, and those of trio and anyio streams.

What may mend itself is worth another attempt; what needs a person is not:

- The connection is gone or was never made (refused, reset, end of file, unreachable): RECONNECT.
- A name was not found: a laptop without a network says the same as a mistyped name, so it is tried again, but not
  for ever. A resolver that calls its own trouble temporary is believed without a limit.
- TLS: a certificate that does not verify FAILs; a handshake or a stream that was cut is made anew.
- A timeout that the program set: RETRY, for the connection may be well. If yours carries a late answer that could be
  taken for the next one, put ``Rule(TimeoutError, Action.RECONNECT)`` first. The kernel's own (ETIMEDOUT) means that
  the connection is dead: RECONNECT.
- This machine ran out of something (ports, buffers, descriptors): RETRY, not for ever.
- Everything else FAILs: files, permissions (EACCES and EPERM are somebody's decision), and an address in use, which
  belongs to another program (a server that restarts wants SO_REUSEADDR).
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.rule import Rule

__all__ = ["LONG_SHOT", "SOCKETS", "is_temporary"]

# Attempts at what may never work. With the default backoff they take about a minute: as long as Linux keeps a
# closed port in TIME_WAIT (60 s).
LONG_SHOT = 10

# A handshake that is refused is mostly a setting (versions, ciphers, a port that speaks no TLS), now and then a
# server in the middle of its deployment.
HANDSHAKES = 3  # and for what was closed on purpose, perhaps by the program itself

# How asyncio, trio and anyio report that a host has several addresses and none of them took the connection: one
# plain OSError without a number.
NO_ADDRESS = ("multiple exceptions: ", "all attempts to connect to ", "all connection attempts failed")

# Errors of getaddrinfo that are mistakes in the program's arguments.
MISUSES = ("EAI_ADDRFAMILY", "EAI_BADFLAGS", "EAI_FAMILY", "EAI_SERVICE", "EAI_SOCKTYPE")


@dataclass(frozen=True, slots=True, init=False)
class HasErrno:
    """A predicate: an error of the standard library's own has one of these numbers.

    A library that derives from OSError knows better what its errors mean, and has a preset of its own or none.

    Args:
        names: as in ``errno``; one that this platform lacks is left out.
    """

    numbers: frozenset[int]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "numbers", frozenset(getattr(errno, name) for name in names if hasattr(errno, name)))

    def __call__(self, error: OSError) -> bool:
        return error.errno in self.numbers and type(error).__module__.partition(".")[0] in sys.stdlib_module_names


def is_temporary(error: OSError) -> bool:
    """Whether the resolver calls its own failure temporary."""
    from socket import EAI_AGAIN  # loaded already: the error is one of its own

    return error.errno == EAI_AGAIN


def is_misuse(error: OSError) -> bool:
    """Whether it is the question to the resolver that is wrong."""
    import socket  # loaded already: the error is one of its own

    return error.errno in {getattr(socket, name) for name in MISUSES if hasattr(socket, name)}


def is_missing_socket(error: OSError) -> bool:
    """Whether a Unix socket is not there (yet): a missing file has its name in the error, a missing socket has not."""
    return error.errno == errno.ENOENT and error.filename is None


def found_no_address(error: OSError) -> bool:
    """Whether none of a host's addresses took the connection."""
    return type(error) is OSError and error.errno is None and str(error).lower().startswith(NO_ADDRESS)


RECONNECT, RETRY, FAIL = Action.RECONNECT, Action.RETRY, Action.FAIL

# TLS and DNS errors number themselves apart from errno, and their numbers collide with its own: they come first.
SOCKETS = Classifier(
    Rule("ssl.SSLCertVerificationError", FAIL, category="certificate"),
    Rule(("ssl.SSLWantReadError", "ssl.SSLWantWriteError", BlockingIOError), RETRY, category="busy"),
    Rule(("ssl.SSLEOFError", "ssl.SSLZeroReturnError", "ssl.SSLSyscallError"), RECONNECT, category="tls"),
    Rule("ssl.SSLError", RECONNECT, category="tls", attempts=HANDSHAKES),
    Rule("socket.gaierror", RETRY, category="dns", when=is_temporary),
    Rule("socket.gaierror", FAIL, category="dns", when=is_misuse),
    Rule(("socket.gaierror", "socket.herror"), RETRY, category="dns", attempts=LONG_SHOT),
    Rule(ConnectionRefusedError, RECONNECT, category="refused"),
    Rule(FileNotFoundError, RECONNECT, category="refused", when=is_missing_socket),
    Rule((ConnectionError, EOFError), RECONNECT, category="reset"),
    Rule(("trio.BrokenResourceError", "anyio.BrokenResourceError", "anyio.EndOfStream"), RECONNECT, category="reset"),
    Rule(TimeoutError, RECONNECT, category="timeout", when=HasErrno("ETIMEDOUT")),
    Rule((TimeoutError, "trio.TooSlowError"), RETRY, category="timeout"),
    Rule(OSError, RECONNECT, category="reset", when=HasErrno("ENETRESET", "ENOTCONN", "ESHUTDOWN")),
    # Closed under us: where a connection is shared, another caller's recovery closes it for all.
    Rule(OSError, RECONNECT, category="closed", when=HasErrno("EBADF"), attempts=HANDSHAKES),
    Rule(("trio.ClosedResourceError", "anyio.ClosedResourceError"), RECONNECT, category="closed", attempts=HANDSHAKES),
    Rule(
        OSError,
        RECONNECT,
        category="unreachable",
        when=HasErrno("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EHOSTDOWN", "ENONET"),
    ),
    Rule(OSError, RECONNECT, category="unreachable", when=found_no_address),
    Rule(
        OSError,
        RETRY,
        category="exhausted",
        # EADDRNOTAVAIL: every local port towards that address is in use (connect(2)).
        when=HasErrno("EADDRNOTAVAIL", "ENOBUFS", "EMFILE", "ENFILE"),
        attempts=LONG_SHOT,
    ),
)
