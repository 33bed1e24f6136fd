"""Documents: files and mappings, and what is wrong with them as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import pytest

import resilient
from resilient import Retry, backoff, load

TWO = """
[policies.db]
on = "ConnectionError"
attempts = 3
timeout = "2m"
backoff = "exponential:0.1..30/full"

[policies."the web"]
on = ["presets.http", "TimeoutError"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resilient.toml"


def problem_of(source: object) -> str:
    with pytest.raises(ValueError) as caught:
        load(source)  # type: ignore[arg-type]
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_a_file_gives_its_policies_by_name(file: Path) -> None:
    """Each table is a Retry of that name."""
    file.write_text(TWO)
    policies = load(file)
    assert list(policies) == ["db", "the web"]
    expected = Retry(
        on=ConnectionError, attempts=3, timeout=120, backoff=backoff.exponential(0.1, cap=30).jitter("full"), name="db"
    )
    assert policies["db"] == expected
    assert load(str(file)) == load(file)


def test_a_mapping_is_read_like_a_file(file: Path) -> None:
    """What tomllib gives, a mapping of any kind, or the same with Python's own values."""
    file.write_text(TWO)
    written = {
        "db": {"on": "ConnectionError", "attempts": 3, "timeout": "2m", "backoff": "exponential:0.1..30/full"},
        "the web": MappingProxyType({"on": ("presets.http", "TimeoutError")}),
    }
    assert load({"policies": written}) == load(file)


def test_the_result_is_read_only() -> None:
    """Nobody changes the policies of somebody else."""
    policies = load({"policies": {"db": {"on": "OSError"}}})
    with pytest.raises(TypeError):
        policies["db"] = policies["db"]  # type: ignore[index]


def test_the_result_shows_what_it_holds() -> None:
    """And finds the policies that are a Retry."""
    document: dict[str, object] = {"policies": {"db": {"on": "OSError"}, "slow": {"kind": "timeout", "seconds": 1}}}
    policies = load(document)
    assert repr(policies) == f"Loaded({{'db': {policies['db']!r}, 'slow': {policies['slow']!r}}})"
    assert dict(policies.retries) == {"db": Retry(on=OSError, name="db")}
    assert len(policies) == 2
    with pytest.raises(KeyError):
        policies["none"]
    with pytest.raises(TypeError):
        policies.retries["db"] = policies["db"]  # type: ignore[index]


def test_what_is_code_is_added_with_with() -> None:
    """A policy from a file takes handlers as any other."""
    recovery = resilient.Recovery(reconnect=print)
    assert load({"policies": {"db": {"on": "OSError"}}})["db"].with_(recovery=recovery).recovery is recovery


def test_a_document_without_policies_is_one_policy() -> None:
    """It is called "default"."""
    assert dict(load({"on": "OSError", "attempts": 2})) == {"default": Retry(on=OSError, attempts=2, name="default")}


def test_no_policies_at_all() -> None:
    """An empty table of policies is honoured; an empty document was probably meant otherwise."""
    assert dict(load({"policies": {}})) == {}
    assert problem_of({}) == "settings: policies is missing: write a table such as [policies.db]"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"policie": {}}, "settings: policie is not a known key; did you mean 'policies'?"),
        ({"policies": 3}, "settings: policies must be a table, got 3"),
        ({"policies": {"db": 3}}, "settings: policies.db must be a table, got 3"),
        (
            {"policies": {}, "attempts": 3},
            "settings: attempts stands beside [policies]: put it into the table of a policy",
        ),
        (
            {"policies": {"a b": {"on": "OSError", "x": 1}}},
            'settings: policies."a b".x is not a known key; there are: ',
        ),
        ({"polices": {}, "pipelines": {}}, "settings: polices is not a known key; did you mean 'policies'?"),
        ({"pipelines": 3}, "settings: pipelines must be a table, got 3"),
        ({"budgets": {"a": 3}}, "settings: budgets.a must be a table, got 3"),
        (
            {"pipelines": {}, "rate": 3},
            "settings: rate stands beside [pipelines]: put it into the table of a policy",
        ),
        ({"attempts": 0, "on": "OSError"}, "settings: attempts must be >= 1, got 0"),
        ({"policies": {"db": {"on": "OSError", 3: 4}}}, "settings: policies.db.3 is not a known key"),
    ],
)
def test_the_shape_of_a_document_is_checked(document: dict[str, object], problem: str) -> None:
    """The text names the source, the dotted key and what to do."""
    assert problem_of(document).startswith(problem)


def test_all_problems_are_told_at_once(file: Path) -> None:
    """One line for each, in the order of the tables."""
    file.write_text("[policies.a]\non='OSError'\nattempts=0\ntimeout=-1\n[policies.b]\nattempt=3")
    assert problem_of(file).splitlines() == [
        f"{file}: policies.a.attempts must be >= 1, got 0",
        f"{file}: policies.a.timeout must be > 0 s, got -1",
        f"{file}: policies.b.attempt is not a known key; did you mean 'attempts'?",
        f'{file}: policies.b.on is missing: say which errors, such as on = "ConnectionError" or on = "presets.http"',
    ]


def test_a_missing_file_says_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error has the whole path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no settings file") as caught:
        load("nowhere.toml")
    assert caught.value.filename == os.path.join(os.getcwd(), "nowhere.toml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[policies.db]\nattempts 3\n", "is not TOML: .*line 2"),
        (b"[policies.db]\non = 'OSError\n", "is not TOML: .*line 2"),
        (b'[policies.db]\non = """OSError\n\n', "is not TOML: .*line 3"),
        (b"[policies.db]\n\non = '\xff'\n", "must be UTF-8, got byte 0xff at line 3"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(file: Path, content: bytes, problem: str) -> None:
    """The error names the file and the line."""
    file.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as caught:
        load(file)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize("source", [3, None, ["a"], b"resilient.toml"])
def test_a_source_is_a_path_or_a_mapping(source: object) -> None:
    """Anything else is a mistake in code."""
    with pytest.raises(TypeError, match="source must be the path of a TOML file or a mapping, got"):
        load(source)  # type: ignore[arg-type]
