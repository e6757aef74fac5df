"""``python benchmarks/peers``: see ``command.py``."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # Run as a folder, Python looks for modules in it alone: its neighbours are one level up.
    sys.path[0] = str(Path(__file__).parents[1])
    runpy.run_module("peers.command", run_name="__main__")
