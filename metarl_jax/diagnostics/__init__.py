"""How fast and how right: timing, and gradients against exact values."""
