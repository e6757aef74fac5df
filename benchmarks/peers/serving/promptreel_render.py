"""A render process without a model, run as a script.

It speaks Promptreel's protocol, and does the same work as everybody else's.
"""

import json
import sys
from pathlib import Path
from typing import Any

from noop import render


def say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def answer(command: dict[str, Any]) -> None:
    if command["type"] == "load":
        say(type="ready", device="no-op", load_seconds=0.0)
    elif command["type"] == "render":
        job_id = command["job_id"]
        file = render(command["prompt"], Path(command["work_dir"]) / "final_video.mp4")
        size = {"width": command["output_width"], "height": command["output_height"]}
        video = {"kind": "video", "path": str(file), "content_type": "video/mp4", **size}
        say(type="denoised", job_id=job_id)
        say(
            type="rendered",
            job_id=job_id,
            files=[video],
            frames=command["frames"],
            fps=command["fps"],
            phase_seconds={},
        )


def main() -> None:
    for line in sys.stdin:  # It ends with the worker, whose end of the pipe this is.
        answer(json.loads(line))


if __name__ == "__main__":
    main()
