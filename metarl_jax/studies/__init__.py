"""Several runs together, and what they are compared with."""
