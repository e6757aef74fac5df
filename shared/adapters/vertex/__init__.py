"""Vertex AI: who asks and asks again, whose fault it is when that fails, and Gemini."""
