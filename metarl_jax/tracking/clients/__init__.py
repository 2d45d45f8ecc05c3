"""Clients that a run can be told to: one file each, imported when a config names it."""
