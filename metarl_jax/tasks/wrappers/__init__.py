"""What any task family can be made into."""
