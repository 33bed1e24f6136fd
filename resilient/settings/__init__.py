"""Policies from a TOML file or a mapping: ``resilient.load("resilient.toml")["db"]``."""

from resilient.settings.document import load

__all__ = ["load"]
