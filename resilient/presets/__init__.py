"""Ready classifiers for the errors of well-known libraries, which they match by name and never import.

They are plain :class:`~resilient.Classifier` objects: put rules of your own before them with ``mine | presets.http``.
"""

from __future__ import annotations

from resilient.presets import http_errors, postgres_errors, redis_errors, socket_errors

__all__ = ["http", "http_once", "postgres", "redis", "sockets"]

sockets = socket_errors.SOCKETS
"""The standard library's network errors, and those of trio and anyio streams."""

http = http_errors.HTTP
"""What httpx, requests, aiohttp and urllib raise, and the responses that the first three return."""

http_once = http_errors.HTTP_ONCE
"""The same for requests that must not run twice: tries again only what certainly did not run."""

postgres = postgres_errors.POSTGRES
"""What psycopg 3 raises."""

redis = redis_errors.REDIS
"""What redis-py raises."""

BY_NAME = {"http": http, "http_once": http_once, "postgres": postgres, "redis": redis, "sockets": sockets}
"""All of them, by the names that settings files use."""
