"""Videos as the `openai` client asks for them, and is told of them."""
