"""Loops that run in the background and are started again when they die."""
