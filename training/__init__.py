"""How the small model that is packaged with Promptreel was made: ``python -m training``."""
