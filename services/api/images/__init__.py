"""Reading what callers and providers send about pictures."""
