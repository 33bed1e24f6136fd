"""The only places that sleep, await, lock or read a clock; every decision is the core's.

Rooms: ``loops`` (what asyncio, trio and threads do differently), ``retry``, ``blocks``, ``gates``, ``hedging``,
``wrapping``. Beside them stand the clock, the deadline that travels inward, locks, and forks.
"""
