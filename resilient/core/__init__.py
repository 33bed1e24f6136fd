"""Decisions, and nothing else: pure functions and machines over facts, instants and random numbers."""
