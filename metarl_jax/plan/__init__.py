"""What a run would need and cost on hardware that need not be here."""
