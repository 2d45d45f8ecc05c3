"""Methods that learn from examples to act in context."""
