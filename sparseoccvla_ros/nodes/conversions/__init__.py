"""Messages to the package's types and back: pure functions, no decisions, tested without spinning."""
