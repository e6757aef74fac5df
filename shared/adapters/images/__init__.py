"""Who makes pictures elsewhere, behind ``shared/images/provider.py``."""
