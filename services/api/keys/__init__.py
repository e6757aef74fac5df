"""API keys: who may ask, as whom, and for what."""
