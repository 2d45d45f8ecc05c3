"""Classical algorithms for bandits and tabular processes, to compare with."""
