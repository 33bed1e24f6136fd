"""The command as a whole: help, version, and what it does without its packages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

import resilient
from resilient.cli import run as run_module
from resilient.cli.app import COMMANDS, app


def test_help_shows_examples() -> None:
    """Of each command, with its name."""
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert "resilient run -- curl -fsS https://example.org" in text
    for name in COMMANDS:
        assert f"  {name} " in text
        alone = CliRunner().invoke(app, [name, "-h"], prog_name="resilient").stdout
        assert f"Usage: resilient {name}" in alone


def test_version() -> None:
    """The package's own."""
    assert CliRunner().invoke(app, ["--version"]).stdout == f"resilient, version {resilient.__version__}\n"


def test_an_unknown_command_is_wrong_usage() -> None:
    """Status 2."""
    assert CliRunner().invoke(app, ["rnu"]).exit_code == 2


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_packages_it_says_what_to_install(missing: str) -> None:
    """One line, and status 2."""
    script = f"import sys; sys.modules[{missing!r}] = None; from resilient.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'resilient: the command line needs two more packages: pip install "resilient-toolkit[cli]"\n'
    )


def test_the_module_is_the_command() -> None:
    """As ``python -m resilient``."""
    done = subprocess.run([sys.executable, "-m", "resilient", "--help"], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("Usage: resilient [OPTIONS] COMMAND [ARGS]...")


def test_the_library_does_not_load_the_command_line() -> None:
    """Nor what it draws with."""
    script = (
        "import sys, resilient as r; r.load({'on': 'OSError'}); print({'click', 'resilient.cli'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


def test_run_needs_a_system_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it says so, and runs nothing."""
    monkeypatch.setattr(run_module.os, "name", "nt")
    done = CliRunner().invoke(app, ["run", "--", "true"])
    monkeypatch.undo()
    assert done.exit_code == 2
    assert "needs process groups and signals, which this system has not" in done.stderr
    assert os.name != "nt"
