"""Runs the suite on every Python 3.11 to 3.13 that is found, each against the wheel built from this tree.

Looks on PATH and among the versions of pyenv, whose shims answer only if one is chosen. Run by ``make test-all``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WANTED = [(3, 11), (3, 12), (3, 13)]
ROOT = Path(__file__).parents[1]


def candidates() -> Iterator[Path]:
    """Every interpreter that might be one of those wanted."""
    yield Path(sys.executable)
    for version in WANTED:
        found = shutil.which(f"python{version[0]}.{version[1]}")
        if found:
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in WANTED:
        yield from sorted(pyenv.glob(f"versions/{version[0]}.{version[1]}*/bin/python"), reverse=True)


def found() -> dict[tuple[int, int], Path]:
    """One working interpreter, with venv and pip, for each version that there is."""
    pythons: dict[tuple[int, int], Path] = {}
    for python in candidates():
        said = subprocess.run(
            [python, "-c", "import ensurepip, sys, venv; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        version = tuple(int(part) for part in said.stdout.split()) if said.returncode == 0 else ()
        if version in WANTED:
            pythons.setdefault(version, python)  # type: ignore[arg-type]  # it has two parts, being among them
    return dict(sorted(pythons.items()))


def run(*command: str | Path, **settings: str | Path) -> None:
    """Runs a command; its failure ends this program."""
    subprocess.run(command, check=True, cwd=settings.get("cwd", ROOT))


def wheel(into: Path) -> Path:
    """The wheel of this tree, and what is in it."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", into, ROOT)
    (built,) = into.glob("*.whl")
    return built


def check(version: tuple[int, int], python: Path, built: Path) -> None:
    """Installs the wheel beside what tests need, and runs the suite against it."""
    name = f"{version[0]}.{version[1]}"
    environment = ROOT / f".venv-{name}"
    own = environment / "bin" / "python"
    print(f"== Python {name}: {python}", flush=True)
    if not own.exists():
        run(python, "-m", "venv", environment)
    pip = (own, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--upgrade", "pip>=25.1")
    run(*pip, "install", "--group", "test")
    run(*pip, "install", "--force-reinstall", "--no-deps", built)
    run(*pip, "install", f"{built}[all]")
    where = subprocess.run(
        [own, "-P", "-c", "import resilient; print(resilient.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout
    if str(environment) not in where:
        raise SystemExit(f"Python {name} would test {where.strip()}, not the wheel")
    # -P keeps the working tree off the path, so that the wheel is what is imported.
    # The tests of one file stay in one process: some share what a module sets up.
    run(own, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-n", "logical", "--dist", "loadfile")


def main() -> None:
    """Builds, and runs them all; says which versions were not found."""
    pythons = found()
    with tempfile.TemporaryDirectory() as folder:
        built = wheel(Path(folder))
        for version, python in pythons.items():
            check(version, python, built)
    missing = [f"{major}.{minor}" for major, minor in WANTED if (major, minor) not in pythons]
    print(f"== passed on {', '.join(f'{major}.{minor}' for major, minor in pythons)}", end="")
    print(f"; not found: {', '.join(missing)}" if missing else "")


if __name__ == "__main__":
    main()
