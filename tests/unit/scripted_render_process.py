"""A render process that does what its prompt says, over the real pipes, without a model.

ok        reports progress and renders three small files
slow      renders for ever, stops when it is told to
hang      hears no cancel, ends by SIGTERM
deaf      hears neither, ends by SIGKILL only
crash     dies in mid-render
refuse    says the prompt was refused
babble    writes a line that is no event
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def say(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def render(command):
    job_id, prompt = command["job_id"], command["prompt"]
    say(type="log_line", job_id=job_id, text=f"told to {prompt}")
    say(type="progress", job_id=job_id, phase="generation", fraction=0.5, step=1, steps=2)
    match prompt:
        case "ok":
            succeed(command)
        case "slow":
            sys.stdin.readline()  # the cancel
            say(type="render_canceled", job_id=job_id)
        case "hang":
            time.sleep(60)
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "refuse":
            say(
                type="render_failed",
                job_id=job_id,
                code="prompt_refused",
                message="The model refused the prompt.",
                retry=False,
            )
        case "babble":
            sys.stdout.write("loading weights: 100%\n")
            sys.stdout.flush()


def succeed(command):
    files = []
    for kind, name, content_type in (
        ("video", "final_video.mp4", "video/mp4"),
        ("poster", "poster.jpg", "image/jpeg"),
        ("spritesheet", "spritesheet.jpg", "image/jpeg"),
    ):
        path = Path(command["work_dir"]) / name
        path.write_text(f"{kind} of seed {command['seed']}")
        size = {"width": command["output_width"], "height": command["output_height"]}
        files.append({"kind": kind, "path": str(path), "content_type": content_type, **size})
    say(
        type="rendered",
        job_id=command["job_id"],
        files=files,
        frames=command["frames"],
        fps=command["fps"],
        phase_seconds={"plan": 0.0, "keyframes": 0.0, "generation": 0.1, "stitch": 0.1},
    )


for line in sys.stdin:
    command = json.loads(line)
    if command["type"] == "load":
        if command["device"] == "cuda":
            say(type="load_failed", message="There is no CUDA device here.")
        else:
            say(type="ready", device="scripted", load_seconds=0.01)
    elif command["type"] == "render":
        render(command)
