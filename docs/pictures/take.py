"""Takes the pictures of the README: what the demo shows, `promptreel watch` while a job renders, and /docs.

    python docs/pictures/take.py [FOLDER]

Everything in them is real: it starts an installation of its own, gives it a job and looks. It needs
Chromium, and nothing else needs it.
"""

import html
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyte
import yaml
from PIL import Image
from pyte.screens import Char

PROMPTREEL = Path(sys.executable).with_name("promptreel")
PROMPT = "a red circle moving left on a navy background"
SEED = 1
COLUMNS, ROWS = 108, 17
# Of the page below: with the font's 8.43 pixels a character.
WIDTH_PIXELS, FRAME_PIXELS, LINE_PIXELS = 1010, 114, 20.3
START_SECONDS = 180
# How far the job is in the picture.
PERCENT = 55

COLOURS_OF_A_PICTURE = 128

# Of a dark terminal; what a command prints in no colour is drawn in the first.
COLOURS = {
    "default": "#d6deeb",
    "black": "#637777",
    "red": "#ef5350",
    "green": "#22da6e",
    "brown": "#ffcb6b",
    "blue": "#82aaff",
    "magenta": "#c792ea",
    "cyan": "#7fdbca",
    "white": "#ffffff",
}
PAGE = """\
<!doctype html><meta charset="utf-8">
<style>
  body {{ margin: 0; padding: 28px; background: #fff; }}
  .window {{ background: #011627; border-radius: 10px; box-shadow: 0 6px 18px #0005; }}
  .bar {{ height: 34px; padding: 0 14px; display: flex; gap: 8px; align-items: center; }}
  .bar i {{ width: 12px; height: 12px; border-radius: 50%; background: #33475b; }}
  pre {{ margin: 0; padding: 2px 20px 18px; font: 14px/1.45 "DejaVu Sans Mono", monospace; }}
</style>
<div class="window"><div class="bar"><i></i><i></i><i></i></div><pre>{text}</pre></div>
"""


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with running(place) as url:
            take_contact_sheet(place, folder / "demo.jpg")
            text = as_html(watched(place))
            page = place / "terminal.html"
            page.write_text(PAGE.format(text=text))
            height = FRAME_PIXELS + round(LINE_PIXELS * (text.count("\n") + 1))
            photograph(page.as_uri(), folder / "watch.png", width=WIDTH_PIXELS, height=height)
            photograph(f"{url}/docs", folder / "docs.png", width=1180, height=1030)


@contextmanager
def running(place: Path) -> Iterator[str]:
    """`promptreel up`, ready to render what the demo renders."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {"data_dir": "state", "server": {"port": port}, "render": {"seed": SEED}}
    (place / "promptreel.yaml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    with (place / "up.log").open("wb") as log:
        up = subprocess.Popen([PROMPTREEL, "up"], cwd=place, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(url):
            if up.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((place / "up.log").read_text())
            time.sleep(0.2)
        yield url
    finally:
        up.terminate()
        up.wait()


def is_ready(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health").json()["model_loaded"])
    except httpx.HTTPError:
        return False


def take_contact_sheet(place: Path, picture: Path) -> None:
    for arguments in (
        ["submit", PROMPT, "--wait"],
        ["fetch", "last", "--kind", "spritesheet", "--out", str(picture.absolute())],
    ):
        subprocess.run([PROMPTREEL, *arguments], cwd=place, check=True)


def watched(place: Path) -> pyte.Screen:
    """What a terminal shows of two commands, when the job is about half done."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for arguments in (["submit", PROMPT], ["watch", "last", "--logs"]):
        shown = [f'"{each}"' if " " in each else each for each in arguments]
        stream.feed(f"\x1b[1;32m$\x1b[0m promptreel {' '.join(shown)}\r\n".encode())
        for output in printed(arguments, place):
            stream.feed(output)
            if progress(screen) >= PERCENT:
                break
    return screen


def printed(arguments: list[str], place: Path) -> Iterator[bytes]:
    """What a command writes to its terminal, as it does."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    command = subprocess.Popen(
        [PROMPTREEL, *arguments],
        cwd=place,
        env={**os.environ, **size},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        while select.select([ours], [], [], START_SECONDS)[0]:
            try:
                output = os.read(ours, 4096)
            except OSError:  # of Linux, when the last one has closed the other end
                return
            if not output:
                return
            yield output
    finally:
        command.terminate()
        command.wait()
        os.close(ours)


def progress(screen: pyte.Screen) -> int:
    """The percentage in the last line that has one."""
    words = " ".join(screen.display).split()
    percents = [word[:-1] for word in words if word.endswith("%") and word[:-1].isdigit()]
    return int(percents[-1]) if percents else 0


def as_html(screen: pyte.Screen) -> str:
    lines = []
    for number in range(ROWS):
        cells = [screen.buffer[number][column] for column in range(COLUMNS)]
        lines.append("".join(map(coloured, cells)).rstrip())
    return "\n".join(lines).rstrip()


def coloured(cell: Char) -> str:
    if cell.data == " ":
        return " "
    colour = COLOURS.get(cell.fg, f"#{cell.fg}")
    weight = "font-weight:bold;" if cell.bold else ""
    return f'<span style="color:{colour};{weight}">{html.escape(cell.data)}</span>'


def photograph(address: str, picture: Path, *, width: int, height: int) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        raise SystemExit("There is no Chromium on this machine: install the package chromium.")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                "--force-device-scale-factor=1.5",
                f"--window-size={width},{height}",
                "--virtual-time-budget=10000",
                f"--screenshot={picture}",
                address,
            ],
            check=True,
            capture_output=True,
        )
    # A screen has few colours: a third of the bytes, and no difference to be seen.
    Image.open(picture).quantize(COLOURS_OF_A_PICTURE).save(picture, optimize=True)
    print(f"{picture}  {picture.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
