"""One file a public surface: each parses, calls a use case and replies in its own words."""
