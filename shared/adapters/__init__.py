"""The adapters behind the ports, one set a profile."""
