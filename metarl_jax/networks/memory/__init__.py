"""What a policy remembers with."""
