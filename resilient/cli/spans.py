"""Lengths of time for people, in the units that settings and options take."""

from __future__ import annotations

__all__ = ["spoken"]


def spoken(seconds: float, *, tenths: bool = False) -> str:
    """A length of time such as 250ms, 1.5s, 2m 5s or 1h 3m.

    Args:
        seconds: >= 0.
        tenths: below a minute, always seconds with one decimal: for what is watched while it changes.
    """
    if seconds < 59.95 if tenths else seconds < 59.995:
        if tenths:
            return f"{seconds:.1f}s"
        return f"{seconds * 1000:.3g}ms" if 0 < seconds < 0.9995 else f"{seconds:.4g}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 1000:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{seconds / 3600:.3g}h"
