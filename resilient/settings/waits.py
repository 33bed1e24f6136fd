"""Durations and backoffs as settings hold them: numbers, text, or a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any

from resilient.core.backoff import Backoff
from resilient.core.setting_errors import SettingTypeError
from resilient.settings.notation import FORMS, TIME, jittered, read_backoff, read_duration
from resilient.settings.table import Table, suggestion

__all__ = ["as_seconds", "read_curve", "seconds_or_curve"]

EVERY_SHAPE = ("shape", "jitter", "floor")


def as_seconds(name: str, value: object, wanted: str = TIME) -> Any:
    """Text as seconds; anything else as it is, for the policy to check.

    Args:
        name: the setting's name, for the error.
        value: what TOML has there.
        wanted: what the setting may be, for the error, where that is more than a time.

    Raises:
        ValueError: it is a text that says no time.
    """
    return read_duration(name, value, wanted) if isinstance(value, str) else value


def seconds_or_curve(name: str, value: object) -> Any:
    """Text as a backoff if it is written like one, else as seconds; anything else as it is."""
    if isinstance(value, str) and ":" in value:
        return read_backoff(name, value)
    return as_seconds(name, value, f"{TIME}, or waits such as exponential:5..300")


def read_curve(table: Table, key: str) -> Backoff | None:
    """The backoff under a key, such as the ``backoff`` of a policy or a rule; None and a problem if it is none."""
    value = table.entries[key]
    if isinstance(value, Mapping):
        inner = table.inner(key)
        assert inner is not None  # it is a mapping
        return _from_table(inner)
    return table.read(key, partial(_from_value, key))


def _from_value(key: str, value: object) -> Backoff:
    if isinstance(value, str):
        return read_backoff(key, value)
    if isinstance(value, Backoff):
        return value
    raise SettingTypeError(key, f"must be text such as exponential:0.1..300 or a table, got {value!r}")


def _from_table(table: Table) -> Backoff | None:
    shape = table.entries.get("shape")
    form = FORMS.get(shape) if isinstance(shape, str) else None
    if form is None:
        what = f"must be a known shape, got {shape!r}" if "shape" in table else "is missing"
        table.note(f"shape {what}{suggestion(shape, FORMS)}")
        return None
    # The functions of core.backoff are the authority on what each shape takes.
    parameters = signature(form.make).parameters
    table.check_keys((*EVERY_SHAPE, *parameters))
    missing = [name for name, parameter in parameters.items() if _needed(parameter) and name not in table]
    for name in missing:
        table.note(f"{name} is missing: {shape} takes {', '.join(parameters)}")
    return None if missing else table.attempt(lambda: _finished(_drawn(table, form.make, parameters), table))


def _needed(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty


def _drawn(table: Table, make: Any, parameters: Mapping[str, Parameter]) -> Backoff:
    given = {name: table.entries[name] for name in parameters if name in table}
    if "delays" in given:
        delays = given["delays"]
        if not isinstance(delays, (list, tuple)):
            raise SettingTypeError("delays", f"must be a list of waits, got {delays!r}")
        return make(*(as_seconds("delays", delay) for delay in delays))  # type: ignore[no-any-return]  # see FORMS
    waits = {name: as_seconds(name, value) for name, value in given.items() if name != "factor"}
    return make(**given | waits)  # type: ignore[no-any-return]  # see FORMS


def _finished(backoff: Backoff, table: Table) -> Backoff:
    if "jitter" in table:
        backoff = jittered(backoff, table.entries["jitter"])
    if "floor" in table:
        backoff = backoff.floor(as_seconds("floor", table.entries["floor"]))
    return backoff
