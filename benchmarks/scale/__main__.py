"""`python benchmarks/scale`; what it takes is in ``run.py``."""

import importlib
import sys
from pathlib import Path

# Started as a folder, Python looks only inside it: `scale` and the other benchmarks are beside it.
sys.path[0] = str(Path(__file__).resolve().parents[1])
importlib.import_module("scale.run").main()
