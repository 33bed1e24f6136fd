"""Pipelines: policies of the document by name, and others in place, outermost first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resilient.core.setting_errors import checked_name
from resilient.policies.policy import Pipeline, Policy
from resilient.settings.table import Table, choices

__all__ = ["read_pipeline"]

KEYS = ("layers", "name")
EXAMPLE = 'such as layers = ["limit", { kind = "timeout", seconds = "5s" }]'


def read_pipeline(
    table: Table,
    name: str,
    known: Mapping[str, Policy | None],
    read_layer: Callable[[Table, str], Policy | None],
) -> Pipeline | None:
    """The pipeline that a table describes.

    Args:
        table: its settings.
        name: the pipeline's name where the table gives none; its layers in place are called like it.
        known: what a layer may name; None: something is wrong with that one.
        read_layer: makes a layer of the table in its place.

    Returns:
        None and problems, if anything in it is wrong.
    """
    before = len(table.problems)
    table.check_keys(KEYS)
    if "name" in table:
        named = table.read("name", checked_name)
        name = name if named is None else named
    layers = [_read_layer(table, place, entry, name, known, read_layer) for place, entry in enumerate(_listed(table))]
    if len(table.problems) > before or None in layers:
        return None
    return table.attempt(lambda: Pipeline(*filter(None, layers), name=name))


def _listed(table: Table) -> list[object]:
    if "layers" not in table:
        table.note(f"layers is missing: say which policies, outermost first, {EXAMPLE}")
        return []
    layers = table.entries["layers"]
    if not isinstance(layers, (list, tuple)):
        table.note(f"layers must be a list of policies, outermost first, {EXAMPLE}, got {layers!r}")
        return []
    if not layers:
        table.note(f"layers must have at least one policy, {EXAMPLE}, got {layers!r}")
    return list(layers)


def _read_layer(
    table: Table,
    place: int,
    entry: object,
    name: str,
    known: Mapping[str, Policy | None],
    read_layer: Callable[[Table, str], Policy | None],
) -> Policy | None:
    if isinstance(entry, Policy):
        return entry
    if isinstance(entry, Mapping):
        inner = table.within(f"layers[{place}]", entry)
        assert inner is not None  # it is a mapping
        return read_layer(inner, name)
    if not isinstance(entry, str):
        table.note(f"layers[{place}] must be a policy's name, or a table with its kind, got {entry!r}")
    elif entry not in known:
        what = "a policy of this document, or a pipeline above this one"
        table.note(f"layers[{place}] must name {what}, got {entry!r}{choices(entry, known)}")
    else:
        return known[entry]
    return None
