"""A settings document: a TOML file or a mapping, read as a whole."""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from resilient.policies.retry import Retry
from resilient.settings.policy import KEYS, read_policy
from resilient.settings.table import Table

__all__ = ["DEFAULT", "load"]

POLICIES = "policies"
DEFAULT = "default"  # the policy of a document that has no [policies]


def load(source: str | os.PathLike[str] | Mapping[str, object]) -> Mapping[str, Retry]:
    """Named policies from a TOML file, or from a mapping of the same shape.

    Args:
        source: path of the file, or the mapping. Each table ``[policies.db]`` is a policy of that name; a
            document without ``[policies]`` is itself the table of one policy, ``"default"``.

    Returns:
        A read-only mapping of names to policies.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or a setting is wrong. The text has a line for each problem: the file (or
            "settings"), the dotted key, the value and the limit.
        TypeError: the source is neither a path nor a mapping.
    """
    if isinstance(source, Mapping):
        return _policies("settings", source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be the path of a TOML file or a mapping, got {source!r}")
    name = os.fspath(source)
    return _policies(name, _parsed(name))


def _parsed(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no settings file", os.path.abspath(path)) from None
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: must be UTF-8, got byte {content[error.start]:#x} at line {line}") from None
    except tomllib.TOMLDecodeError as error:
        end = f"at line {len(content.splitlines())}, the end of the document"
        raise ValueError(f"{path}: is not TOML: {str(error).replace('at end of document', end)}") from None


def _policies(source: str, document: Mapping[str, Any]) -> Mapping[str, Retry]:
    problems: list[str] = []
    root = Table(source, "", document, problems)
    policies = _named(root) if POLICIES in root else _single(root)
    if problems:
        raise ValueError("\n".join(problems))
    return MappingProxyType({name: policy for name, policy in policies.items() if policy is not None})


def _named(root: Table) -> dict[str, Retry | None]:
    for key in root.entries:
        if key in KEYS:
            root.note(f"{key} stands beside [{POLICIES}]: put it into the table of a policy")
    root.check_keys((POLICIES, *KEYS))
    tables = root.inner(POLICIES)
    if tables is None:
        return {}
    found = {str(name): tables.inner(name) for name in tables.entries}
    return {name: None if table is None else read_policy(table, name) for name, table in found.items()}


def _single(root: Table) -> dict[str, Retry | None]:
    if any(key in KEYS for key in root.entries):
        return {DEFAULT: read_policy(root, DEFAULT)}
    root.check_keys((POLICIES,))
    if not root.entries:
        root.note(f"{POLICIES} is missing: write a table such as [{POLICIES}.db]")
    return {}
