"""Policies from a TOML file or a mapping: ``resilient.load("resilient.toml")["db"]``."""

from resilient.settings.document import Loaded, load

__all__ = ["Loaded", "load"]
