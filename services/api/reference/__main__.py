"""Writes the page to standard output: ``python -m services.api.reference > docs/api.md``."""

import sys

import yaml

from services.api.app import described
from services.api.reference.page import page
from services.api.specification import specification_of
from shared.config import load_config

# The built-in defaults: what the page tells of limits is what an installation has that changed none.
document = yaml.safe_load(specification_of(described(load_config(None))))
sys.stdout.write(page(document))
