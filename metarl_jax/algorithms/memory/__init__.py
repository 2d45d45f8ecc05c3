"""Methods that adapt by remembering."""
