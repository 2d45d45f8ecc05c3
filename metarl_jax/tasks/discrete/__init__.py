"""Bandits and tabular processes."""
