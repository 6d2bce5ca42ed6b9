"""Policies of failure: pure functions of (history, now)."""
