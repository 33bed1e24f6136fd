"""Trying again: the attempts of a call, blocking and async, what comes between them, and streams."""
