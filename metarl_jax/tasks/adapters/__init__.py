"""How an environment of another library becomes a task family."""
