from pathlib import Path

import pytest
from pydantic import ValidationError

from services.gpu_worker.protocol import (
    Cancel,
    Denoised,
    Load,
    LoadFailed,
    LogLine,
    Progress,
    Ready,
    Render,
    RenderCanceled,
    Rendered,
    RenderedFile,
    RenderFailed,
    parse_command,
    parse_event,
)

COMMANDS = [
    Load(model="wan2.1-demo", model_dir=Path("/models/démo"), device="auto", dtype="auto"),
    Load(
        model="wan2.1",
        model_dir=Path("/models/wan"),
        device="auto",
        dtype="auto",
        preset="preview",
        tiny_decoder=Path("/models/tiny.safetensors"),
    ),
    Render(
        job_id="job-1",
        prompt='two lines\nand "quotes" — \u2028 日本',
        negative_prompt="",
        seed=2**53 - 1,
        frames=81,
        fps=16,
        native_width=416,
        native_height=240,
        output_width=832,
        output_height=480,
        steps=8,
        guidance_scale=5.0,
        flow_shift=3.0,
        scheduler="dmd",
        timesteps=(1000, 757, 522),
        guided_steps=0,
        decoder="tiny",
        work_dir=Path("/jobs/job 1"),
    ),
    Cancel(job_id="job-1"),
]

EVENTS = [
    Ready(device="NVIDIA L4", load_seconds=3.25),
    LoadFailed(message="The model is not there."),
    Progress(job_id="job-1", phase="generation", fraction=0.5, step=4, steps=8),
    Progress(job_id="job-1", phase="plan", fraction=1.0),
    LogLine(job_id="job-1", text="step 4/8"),
    Denoised(job_id="job-1"),
    Rendered(
        job_id="job-1",
        files=(
            RenderedFile(
                kind="video",
                path=Path("/jobs/job 1/final_video.mp4"),
                content_type="video/mp4",
                width=832,
                height=480,
            ),
        ),
        frames=81,
        fps=16,
        phase_seconds={"plan": 0.001, "generation": 9.5},
    ),
    RenderFailed(job_id="job-1", code="render_crashed", message="It failed.", retry=True),
    RenderCanceled(job_id="job-1"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.type)
def test_a_command_arrives_as_it_was_sent(command):
    assert parse_command(command.encode()) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_event_arrives_as_it_was_sent(event):
    assert parse_event(event.encode()) == event


@pytest.mark.parametrize("message", COMMANDS + EVENTS, ids=lambda message: message.type)
def test_a_message_is_exactly_one_line_whatever_it_holds(message):
    line = message.encode()

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "line",
    [b"", b"Loading weights: 100%\n", b"{}\n", b'{"type":"explode"}\n', b'{"type":"cancel"}\n'],
)
def test_a_line_that_is_no_command_is_refused(line):
    with pytest.raises(ValidationError):
        parse_command(line)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError):
        parse_command(b'{"type":"cancel","job_id":"job-1","really":true}')


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_progress_stays_between_0_and_1(fraction):
    with pytest.raises(ValidationError):
        Progress(job_id="job-1", phase="stitch", fraction=fraction)
