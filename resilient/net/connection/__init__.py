"""Connections that are kept alive: settings, state, who waits for one, what is run for it, and their managers."""
