"""Opaque frames over connections that are kept alive: queues, the protocol, the channel, clients and the server."""
