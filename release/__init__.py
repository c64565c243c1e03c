"""Decisions as plain Python: nothing here imports pulumi, and everything can be tested without an engine."""
