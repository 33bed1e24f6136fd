"""Listeners for the events that the core names."""

from resilient.observe.listeners import Listener, Subscription, listen

__all__ = ["Listener", "Subscription", "listen"]
