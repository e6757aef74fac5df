"""The HTTP API: accepts prompts, answers polls, hands out signed links. Never imports torch."""
