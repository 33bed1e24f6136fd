"""What asyncio, trio and threads do differently: sleeping, waiting to be woken, being cut off, running tasks."""
