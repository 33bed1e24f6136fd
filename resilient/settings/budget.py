"""Retry budgets: a table of their own, or the name of one that policies share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from resilient.core.budget import Budget
from resilient.policies.retry_budget import NUMBERS, RetryBudget
from resilient.settings.table import Table, suggestion
from resilient.settings.waits import as_seconds

__all__ = ["budget_of", "read_budget"]

USUAL = "quota"
DURATIONS = ("ttl",)


def read_budget(table: Table, name: str) -> RetryBudget | None:
    """The budget that a table describes.

    Args:
        table: its settings.
        name: the budget's name where the table gives none.

    Returns:
        None and problems, if anything in it is wrong.
    """
    before = len(table.problems)
    form = table.entries.get("form", USUAL)
    if not isinstance(form, str) or form not in NUMBERS:
        table.note(f"form must be a known form, got {form!r}{suggestion(form, NUMBERS)}")
        return None
    table.check_keys(("form", "name", *NUMBERS[form]), _of_other_forms(form))
    settings: dict[str, Any] = {"name": name}
    for key in ("name", *NUMBERS[form]):
        if key in table:
            settings[key] = table.read(key, partial(_checked, form, key))
    return RetryBudget(form, **settings) if len(table.problems) == before else None  # type: ignore[arg-type]  # see NUMBERS


def budget_of(table: Table, name: str, budgets: Mapping[str, RetryBudget | None]) -> Budget | None:
    """The ``budget`` of a policy: a table, the name of a shared one, or what code put there.

    Args:
        table: the policy's.
        name: the policy's name.
        budgets: those of the document.

    Returns:
        None and a problem, if it is none of these.
    """
    value = table.entries["budget"]
    if isinstance(value, Mapping):
        inner = table.inner("budget")
        assert inner is not None  # it is a mapping
        return read_budget(inner, name)
    if isinstance(value, Budget):
        return value
    if isinstance(value, str) and value in budgets:
        return budgets[value]
    if isinstance(value, str):
        hint = suggestion(value, budgets) if budgets else f"; there is no [budgets.{value}]"
        table.note(f"budget must name a table of [budgets], got {value!r}{hint}")
    else:
        example = 'such as { form = "quota", capacity = 100 }'
        table.note(f"budget must be the name of a table of [budgets], or a table {example}, got {value!r}")
    return None


def _of_other_forms(form: str) -> dict[str, str]:
    return {
        key: f'is a setting of form = "{other}"' for other, keys in NUMBERS.items() if other != form for key in keys
    }


def _checked(form: Any, key: str, value: object) -> Any:
    """One setting as RetryBudget itself takes it."""
    given: dict[str, Any] = {key: as_seconds(key, value) if key in DURATIONS else value}
    RetryBudget(form, **given)
    return given[key]
