"""A render process that does what its prompt says, over the real pipes, without a model.

ok        reports progress and renders three small files
slow      renders for ever, stops when it is told to
finish    leaves the device at once; is finished when there is a file ``go`` in its work directory
linger    leaves the device at once and is never finished; ends by SIGTERM
parts     makes a part, unless it is there, and stops when it is told to
lastpart  makes one more part, says what parts were there, and succeeds
encode    has begun to write its video, stops when it is told to
hang      hears no cancel, ends by SIGTERM
deaf      hears neither, ends by SIGKILL only
crash     dies in mid-render
refuse    says the prompt was refused
babble    writes a line that is no event
devour    takes memory, for real, until it is killed or has a gigabyte
exit      ends in mid-render as if all were well
freeze    is stopped by a signal, so that no SIGTERM is delivered
flood     writes log lines for ever, and to standard error for a while
gush      writes a line that never ends
mute      closes its standard output and lives on
unload    says in mid-render that no model can be loaded
dream     reports a phase that there is not
stutter   says how it ended once more when the next render begins
spawn     starts a process of its own, then hears nothing
…         anything else takes a moment; then it renders as ok does

If its model directory holds a file ``fragile``, it removes that and dies while it loads; what a file ``device``
there says is its device.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

UNSAID = []
NEWS = threading.Condition()
ORDERED = []
CANCELED = set()
SAYING = threading.Lock()


def write(text):
    with SAYING:
        sys.stdout.write(text)
        sys.stdout.flush()


def listen():
    for line in sys.stdin:
        command = json.loads(line)
        with NEWS:
            if command["type"] == "cancel":
                CANCELED.add(command["job_id"])
            else:
                CANCELED.discard(command.get("job_id"))
                ORDERED.append(command)
            NEWS.notify_all()
    os._exit(0)  # The worker is gone.


def next_order():
    with NEWS:
        NEWS.wait_for(lambda: ORDERED)
        return ORDERED.pop(0)


def say(**event):
    write(json.dumps(event) + "\n")


def render(command):
    while UNSAID:
        succeed(UNSAID.pop())
    job_id, prompt = command["job_id"], command["prompt"]
    say(type="log_line", job_id=job_id, text=f"told to {prompt}")
    say(type="progress", job_id=job_id, phase="generation", fraction=0.5, step=1, steps=2)
    PROMPTS.get(prompt, take_a_moment)(command)


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


def stop_when_told(command):
    job_id = command["job_id"]
    with NEWS:
        NEWS.wait_for(lambda: job_id in CANCELED)
    say(type="render_canceled", job_id=job_id)


def finish(command):
    say(type="denoised", job_id=command["job_id"])
    threading.Thread(target=finish_when_let, args=(command,), daemon=True).start()


def finish_when_let(command):
    job_id = command["job_id"]
    while not (Path(command["work_dir"]) / "go").exists():
        with NEWS:
            if NEWS.wait_for(lambda: job_id in CANCELED, timeout=0.02):
                say(type="render_canceled", job_id=job_id)
                return
    succeed(command)


def linger(command):
    say(type="denoised", job_id=command["job_id"])


def make_part(command, name):
    part = Path(command["work_dir"]) / name
    there = part.exists()
    if not there:
        part.parent.mkdir(exist_ok=True)
        part.write_text(f"part {name}")
        say(type="part_made", job_id=command["job_id"], name=name)
    say(type="log_line", job_id=command["job_id"], text=f"{name} {'found' if there else 'made'}")


def make_parts(command):
    make_part(command, "segments/1.mp4")
    stop_when_told(command)


def make_last_part(command):
    make_part(command, "segments/1.mp4")
    make_part(command, "segments/2.mp4")
    succeed(command)


def encode(command):
    (Path(command["work_dir"]) / "final_video.mp4.partial").write_text("half")
    say(type="progress", job_id=command["job_id"], phase="stitch", fraction=0.5)
    stop_when_told(command)


def hang(_command):
    time.sleep(60)


def ignore_sigterm(_command):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def crash(_command):
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(command):
    say(
        type="render_failed",
        job_id=command["job_id"],
        code="prompt_refused",
        message="The model refused the prompt.",
        retry=False,
    )


def take_a_moment(command):
    time.sleep(0.1)
    succeed(command)


def babble(_command):
    write("loading weights: 100%\n")


def devour(_command):
    hoard = []
    for _ in range(50):
        hoard.append(b"\1" * 20_000_000)
        time.sleep(0.02)
    time.sleep(60)


def end_as_if_all_were_well(_command):
    os._exit(0)


def freeze(_command):
    os.kill(os.getpid(), signal.SIGSTOP)


def flood(command):
    sys.stderr.write("noise\n" * 10_000)
    while True:
        say(type="log_line", job_id=command["job_id"], text="noise" * 1000)


def gush(_command):
    while True:
        write("noise" * 10_000)


def mute(_command):
    os.close(sys.stdout.fileno())
    time.sleep(60)


def unload(_command):
    say(type="load_failed", message="There is no model any more.")
    time.sleep(60)


def dream(command):
    say(type="progress", job_id=command["job_id"], phase="dreaming", fraction=0.5)
    time.sleep(60)


def stutter(command):
    succeed(command)
    UNSAID.append(command)


def spawn(command):
    child = subprocess.Popen(["sleep", "60"])
    (Path(command["work_dir"]) / "pid").write_text(str(child.pid))
    say(type="log_line", job_id=command["job_id"], text="spawned")
    time.sleep(60)


PROMPTS = {
    "ok": succeed,
    "slow": stop_when_told,
    "finish": finish,
    "linger": linger,
    "parts": make_parts,
    "lastpart": make_last_part,
    "encode": encode,
    "hang": hang,
    "deaf": ignore_sigterm,
    "crash": crash,
    "refuse": refuse,
    "babble": babble,
    "devour": devour,
    "exit": end_as_if_all_were_well,
    "freeze": freeze,
    "flood": flood,
    "gush": gush,
    "mute": mute,
    "unload": unload,
    "dream": dream,
    "stutter": stutter,
    "spawn": spawn,
}

threading.Thread(target=listen, daemon=True).start()
while True:
    command = next_order()
    if command["type"] == "load":
        fragile = Path(command["model_dir"]) / "fragile"
        if fragile.exists():
            fragile.unlink()
            os._exit(1)
        if command["device"] == "cuda":
            say(type="load_failed", message="There is no CUDA device here.")
        else:
            device = Path(command["model_dir"]) / "device"
            name = device.read_text() if device.exists() else "scripted"
            say(type="ready", device=name, load_seconds=0.01)
    else:
        render(command)
