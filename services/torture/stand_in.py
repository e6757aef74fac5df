"""A render process without a model, run as a script: it speaks the protocol and keeps its manners badly.

What it does is the prompt's first word; see ``Manner`` in ``crowd.py``. It imports nothing of ours
and starts at once. Its files name their job and are unlike those of any other attempt. As the real one
it finishes one clip beside the steps of the next, and begins no third.
"""

import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

_STEP_SECONDS = 0.05
_FILE_BYTES = 100_000
_FILES = (
    ("video", "final_video.mp4", "video/mp4"),
    ("poster", "poster.jpg", "image/jpeg"),
    ("spritesheet", "spritesheet.jpg", "image/jpeg"),
)

Command = dict[str, Any]

canceled: set[str] = set()
commands: list[Command] = []
arrived = threading.Condition()
saying = threading.Lock()
finishing = threading.Lock()


def say(**event: object) -> None:
    with saying:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


def listen() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        with arrived:
            if command["type"] == "cancel":
                canceled.add(command["job_id"])
            else:
                canceled.discard(command.get("job_id"))
                commands.append(command)
                arrived.notify()
    os._exit(0)  # The worker is gone.


def render(command: Command) -> None:
    """The first half; the second one goes on in a thread."""
    job_id, manner = command["job_id"], command["prompt"].split()[0]
    steps = {"slow": 80, "deaf": 100, "stubborn": 100}.get(manner, random.randint(4, 14))
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for step in range(1, steps + 1):
        time.sleep(_STEP_SECONDS)
        if job_id in canceled and manner not in ("deaf", "stubborn"):
            say(type="render_canceled", job_id=job_id)
            return
        if step == steps // 2:
            misbehave(manner, job_id)
        progress = {"fraction": step / steps, "step": step, "steps": steps}
        say(type="progress", job_id=job_id, phase="generation", **progress)
    if manner == "refused":
        refusal = {"code": "prompt_refused", "message": "The model refused the prompt."}
        say(type="render_failed", job_id=job_id, retry=False, **refusal)
        return
    while not finishing.acquire(timeout=_STEP_SECONDS):
        if job_id in canceled:
            say(type="render_canceled", job_id=job_id)
            return
    say(type="denoised", job_id=job_id)
    threading.Thread(target=finish, args=(command, steps), daemon=True).start()


def finish(command: Command, steps: int) -> None:
    """Takes half as long as the steps."""
    job_id = command["job_id"]
    try:
        for done in range(1, steps // 2 + 1):
            time.sleep(_STEP_SECONDS)
            if job_id in canceled:
                say(type="render_canceled", job_id=job_id)
                return
            say(type="progress", job_id=job_id, phase="stitch", fraction=done / (steps // 2))
        say(
            type="rendered",
            job_id=job_id,
            files=[write(command, *file) for file in _FILES],
            frames=command["frames"],
            fps=command["fps"],
            phase_seconds={"generation": steps * _STEP_SECONDS},
        )
    finally:
        finishing.release()


def misbehave(manner: str, job_id: str) -> None:
    if manner == "crash" or (manner == "stumble" and random.choice((True, False))):
        os.kill(os.getpid(), signal.SIGSEGV)
    if manner == "glutton":
        eaten = []
        while job_id not in canceled:
            eaten.append(bytearray(os.urandom(1024)) * (8 * 1024))  # 8 MB that no page shares
            time.sleep(0.005)


def write(command: Command, kind: str, name: str, content_type: str) -> dict[str, Any]:
    path = Path(command["work_dir"]) / name
    line = f"{kind} of {command['job_id']} seed {command['seed']} attempt {uuid.uuid4()}\n"
    path.write_text(line * (_FILE_BYTES // len(line)))
    size = {"width": command["output_width"], "height": command["output_height"]}
    return {"kind": kind, "path": str(path), "content_type": content_type, **size}


def main() -> None:
    threading.Thread(target=listen, daemon=True).start()
    while True:
        with arrived:
            arrived.wait_for(lambda: commands)
            command = commands.pop(0)
        if command["type"] == "load":
            say(type="ready", device="stand-in", load_seconds=0.0)
        else:
            render(command)


if __name__ == "__main__":
    main()
