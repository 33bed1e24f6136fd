"""A settings document: a TOML file or a mapping, read as a whole."""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from resilient.policies.policy import Policy
from resilient.policies.retry import Retry
from resilient.settings.budget import read_budget
from resilient.settings.pipeline import read_pipeline
from resilient.settings.policy import KEYS, read_policy
from resilient.settings.table import Table, quoted

__all__ = ["DEFAULT", "Loaded", "load"]

T = TypeVar("T")

POLICIES, PIPELINES, BUDGETS = SECTIONS = "policies", "pipelines", "budgets"
DEFAULT = "default"  # the policy of a document that has no sections


class Loaded(Mapping[str, Policy]):
    """The policies of a settings document by name, read-only; its pipelines are among them.

    Args:
        policies: those policies.
    """

    __slots__ = ("_policies",)

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = dict(policies)

    def __getitem__(self, name: str) -> Policy:
        return self._policies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def __repr__(self) -> str:
        return f"Loaded({self._policies!r})"

    @property
    def retries(self) -> Mapping[str, Retry]:
        """Those that are a ``Retry``, with its type."""
        return MappingProxyType({name: policy for name, policy in self.items() if isinstance(policy, Retry)})


def load(source: str | os.PathLike[str] | Mapping[str, object]) -> Loaded:
    """Named policies and pipelines from a TOML file, or from a mapping of the same shape.

    Args:
        source: path of the file, or the mapping. Each table ``[policies.db]`` is a policy of that name, of the kind
            that its key ``kind`` says ("retry" without one); each ``[pipelines.api]`` is a pipeline of its
            ``layers``, each ``[budgets.shared]`` a retry budget for the policies that name it. A document without
            these sections is itself the table of one policy, ``"default"``.

    Returns:
        A read-only mapping of names to policies and pipelines. A policy that pipelines name is the same object there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or a setting is wrong. The text has a line for each problem: the file (or
            "settings"), the dotted key, the value and the limit.
        TypeError: the source is neither a path nor a mapping.
    """
    if isinstance(source, Mapping):
        return _loaded("settings", source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be the path of a TOML file or a mapping, got {source!r}")
    name = os.fspath(source)
    return _loaded(name, _parsed(name))


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
        # Before Python 3.14 its text is all that this error has.
        end = f"at line {len(content.splitlines())}, the end of the document"
        raise ValueError(f"{path}: is not TOML: {str(error).replace('at end of document', end)}") from None


def _loaded(source: str, document: Mapping[str, Any]) -> Loaded:
    problems: list[str] = []
    root = Table(source, "", document, problems)
    policies = _named(root) if any(section in root for section in SECTIONS) else _single(root)
    if problems:
        raise ValueError("\n".join(problems))
    return Loaded({name: policy for name, policy in policies.items() if policy is not None})


def _named(root: Table) -> dict[str, Policy | None]:
    section = next(section for section in SECTIONS if section in root)
    for key in root.entries:
        if key in KEYS:
            root.note(f"{key} stands beside [{section}]: put it into the table of a policy")
    root.check_keys((*SECTIONS, *KEYS))
    budgets = _each(root, BUDGETS, read_budget)
    policies = _each(root, POLICIES, partial(read_policy, budgets=budgets))
    return policies | _pipelines(root, policies, partial(read_policy, budgets=budgets, default=None))


def _each(root: Table, section: str, read: Callable[[Table, str], T | None]) -> dict[str, T | None]:
    """What the tables of a section describe, by name; None where something is wrong with it."""
    tables = root.inner(section) if section in root else None
    found: dict[str, T | None] = {}
    for name in () if tables is None else tables.entries:
        table = tables.inner(name)  # type: ignore[union-attr]  # it has entries
        found[str(name)] = None if table is None else read(table, str(name))
    return found


def _pipelines(
    root: Table, policies: Mapping[str, Policy | None], read_layer: Callable[[Table, str], Policy | None]
) -> dict[str, Policy | None]:
    known = dict(policies)

    def read(table: Table, name: str) -> Policy | None:
        if name in policies:
            root.note(f"{PIPELINES}.{quoted(name)} must have a name of its own: there is [{POLICIES}.{quoted(name)}]")
        made = read_pipeline(table, name, known, read_layer)
        known.setdefault(name, made)  # for those below, so that none can be inside itself
        return made

    return _each(root, PIPELINES, read)


def _single(root: Table) -> dict[str, Policy | None]:
    if any(key in KEYS for key in root.entries):
        return {DEFAULT: read_policy(root, DEFAULT, budgets={})}
    root.check_keys(SECTIONS)
    if not root.entries:
        root.note(f"{POLICIES} is missing: write a table such as [{POLICIES}.db]")
    return {}
