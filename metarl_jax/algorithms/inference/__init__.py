"""Methods that adapt by inferring what the task is."""
