"""Copies of a slow call that race each other, as tasks and as threads."""
