"""The real API behind tripwires: ``python -m services.torture.api --port 8000 --trips DIR``."""

import argparse
from functools import partial
from pathlib import Path

from services.api.main import serve
from services.torture.tripwires import wire_with_tripwires
from shared.lifeline import exit_with_parent
from shared.settings import read_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--trips", type=Path, required=True)
    arguments = parser.parse_args()
    exit_with_parent()
    opener = partial(wire_with_tripwires, folder=arguments.trips)
    serve(read_settings(), port=arguments.port, open_wiring=opener)


if __name__ == "__main__":
    main()
