"""Pictures of what a run does on one task."""
