"""Games from their screens."""
