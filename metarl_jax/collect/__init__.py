"""Experience: episodes and trials side by side, how many at once, and random numbers by address."""
