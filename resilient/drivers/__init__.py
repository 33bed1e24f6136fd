"""The only places that sleep, await, lock or read a clock."""
