"""What a caller may say about a video, beside the prompt, and what becomes of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.gpu_worker.orders import render_command
from shared.catalog import CATALOG
from shared.config import Config
from shared.errors import InvalidRequest
from shared.job import InputFile
from shared.submission import StartingPicture, Submission, settle
from tests.jobs import NOON, plain_job

LONG = {"generation_mode": "chaining", "segments": 3}
VEO = {"default_backend": "veo3", "vertex": {"project": "p"}, "render": {"duration_seconds": 4}}
REAL = {"render": {"model": "wan2.1"}}
DISTILLED = {"render": {"model": "wan2.1", "preset": "fast"}}
PICTURE = StartingPicture(content=b"png", content_type="image/png", extension="png")
TINY = {
    "render": {"model": "wan2.1", "preset": "fast"},
    "models": {"wan2.1": {"dir": "m", "tiny_decoder": "t"}},
}


def _of_the_demo(config):
    return config | {"render": {"model": "wan2.1-demo"} | config.get("render", {})}


def settled(config=None, **said):
    submission = Submission(
        **{"owner": "ada", "prompt": "a boat", "request_id": "r", "body": {}} | said
    )
    return settle(
        submission,
        Config.model_validate(_of_the_demo(config or {})),
        job_id="job_1",
        now=NOON,
        new_seed=lambda: 7,
    )


def ordered(config=None, **said):
    """What the render process is told."""
    request = settled(config, **said).request
    return render_command("job_1", request, CATALOG[request.model], Path("work"))


def test_who_says_nothing_gets_what_is_configured():
    request = settled().request
    assert (request.preset, request.seed, request.duration_seconds) == ("reference", 7, 5)
    assert (request.frames, request.steps, request.guidance_scale) == (None, None, None)
    assert request.negative_prompt is None


def test_everything_that_is_said_reaches_the_render():
    order = ordered(
        size="416x240",
        preset="balanced",
        steps=4,
        guidance_scale=3.5,
        frames=9,
        fps=16,
        seed=2**63 - 1,
        negative_prompt="blurred",
    )
    assert (order.output_width, order.output_height) == (416, 240)
    assert (order.steps, order.guided_steps, order.guidance_scale) == (4, 2, 3.5)
    assert (order.frames, order.fps, order.seed) == (9, 16, 2**63 - 1)
    assert order.negative_prompt == "blurred"


def test_an_empty_negative_prompt_is_one():
    assert ordered(REAL).negative_prompt.startswith("bright colors")
    assert ordered(REAL, negative_prompt="").negative_prompt == ""


@pytest.mark.parametrize(("frames", "seconds"), [(1, 1), (9, 1), (17, 1), (21, 2), (81, 5)])
def test_frames_fill_whole_seconds(frames, seconds):
    assert settled(frames=frames).request.duration_seconds == seconds


@pytest.mark.parametrize("length", [{"duration_seconds": 2}, {"frames": 17}])
def test_who_says_how_long_it_is_to_be_asks_for_one_clip(length):
    assert settled(LONG).request.segments == 3
    assert settled(LONG, **length).request.segments == 1


def test_what_is_configured_instead_of_a_presets_steps_is_not_another_presets():
    config = {"render": {"steps": 3, "guidance_scale": 2.0}}
    assert ordered(config).steps == 3
    assert ordered(config, preset="balanced").steps == 6
    assert ordered(config, preset="fast").guidance_scale == 1


@pytest.mark.parametrize(
    ("config", "said", "field", "words"),
    [
        ({}, {"model": "sora"}, "model", "has the models wan2.1-demo."),
        ({}, {"model": "wan2.1"}, "model", "has the models wan2.1-demo."),
        ({}, {"preset": "best"}, "preset", "offers the presets reference, balanced, fast."),
        (REAL, {"preset": "fast"}, "preset", "offers the presets reference, balanced."),
        (DISTILLED, {"preset": "preview"}, "preset", "offers the presets fast."),
        ({}, {"preset": "fast", "steps": 8}, "steps", "fast was made for 3 steps."),
        ({}, {"preset": "fast", "guidance_scale": 5.0}, "guidance_scale", "has no guidance."),
        (LONG, {"preset": "fast"}, "preset", "renders single clips only"),
        ({}, {"steps": 0}, "steps", "1 to 200"),
        ({}, {"steps": 201}, "steps", "1 to 200"),
        ({}, {"guidance_scale": 0.5}, "guidance_scale", "1 to 100"),
        ({}, {"guidance_scale": 100.5}, "guidance_scale", "1 to 100"),
        ({}, {"frames": 80}, "frames", "multiple of 4, plus one, of 81 at most"),
        ({}, {"frames": 85}, "frames", "multiple of 4, plus one, of 81 at most"),
        ({}, {"frames": -3}, "frames", "multiple of 4, plus one, of 81 at most"),
        ({}, {"frames": 17, "duration_seconds": 1}, "frames", "not both"),
        ({}, {"fps": 24}, "fps", "renders 16 frames a second."),
        ({}, {"duration_seconds": 6}, "duration", "1 to 5 seconds"),
        ({}, {"size": "480x832"}, "size", "offers the sizes 832x480, 416x240."),
        ({}, {"seed": -1}, "seed", "0 to 9223372036854775807"),
        ({}, {"seed": 2**63}, "seed", "0 to 9223372036854775807"),
        ({}, {"negative_prompt": "\x00"}, "negative_prompt", "NUL"),
        ({}, {"negative_prompt": "x" * 2001}, "negative_prompt", "shorten it to 2000"),
        (VEO, {"steps": 8}, "steps", "The model veo3 has no steps to choose."),
        (VEO, {"frames": 17}, "frames", "The model veo3 has no frames to choose."),
    ],
)
def test_what_cannot_be_rendered_is_refused(config, said, field, words):
    with pytest.raises(InvalidRequest) as refused:
        settled(config, **said)
    assert refused.value.field == field
    assert words in refused.value.message
    assert refused.value.message.endswith(".")


def test_a_preset_of_the_same_weights_may_be_asked_for():
    assert settled(TINY, preset="preview").request.preset == "preview"
    assert settled(DISTILLED, steps=3, guidance_scale=1.0).request.steps == 3


def test_the_fallbacks_model_may_be_asked_for_by_its_name():
    config = {"fallback_backend": "veo3", "vertex": {"project": "p"}}
    assert settled(config, model="veo3").request.preset == "reference"
    assert settled(config, model="wan2.1-demo").request.model == "wan2.1-demo"


def test_a_remix_has_everything_of_its_video_but_the_prompt():
    request = replace(plain_job().request, seed=99, frames=17, negative_prompt="blurred")
    source = plain_job(id="job_0", request=request)
    job = settled(prompt="a ship", remix_of=source)
    assert job.request == replace(request, prompt="a ship")
    assert job.remixed_from == "job_0"


def test_a_remix_of_what_another_model_made_is_refused():
    source = plain_job(request=replace(plain_job().request, model="wan2.1"))
    with pytest.raises(InvalidRequest, match="has the models"):
        settled(remix_of=source)


# --- a picture to begin with


def test_a_video_that_begins_with_a_picture_is_one_clip_and_names_its_place():
    job = settled(LONG, picture=PICTURE)
    assert (job.request.mode, job.request.segments) == ("single", 1)
    place = "videos/2026-01/job_1/parts/first_frame.png"
    assert job.request.first_frame == InputFile(key=place, content_type="image/png")
    assert job.input_keys == (place,)
    order = render_command("job_1", job.request, CATALOG["wan2.1-demo"], Path("work"))
    assert order.first_frame == Path("work/first_frame.png")


@pytest.mark.parametrize(
    ("config", "said", "words"),
    [
        ({"models": {"wan2.1-demo": {"dir": "m"}}}, {}, "models.wan2.1-demo.image_to_video"),
        ({}, {"preset": "fast"}, "preset fast begins no video with a picture."),
    ],
)
def test_a_picture_is_refused_where_no_video_can_begin_with_one(config, said, words):
    with pytest.raises(InvalidRequest) as refused:
        settled(config, picture=PICTURE, **said)
    assert refused.value.field == "picture"
    assert words in refused.value.message


def test_veo_begins_with_a_picture_by_itself():
    config = VEO | {"models": {"wan2.1-demo": {"dir": "m"}}}
    assert settled(config, picture=PICTURE).request.first_frame is not None


def test_a_remix_of_what_began_with_a_picture_is_refused():
    with pytest.raises(InvalidRequest, match="which is not kept"):
        settled(remix_of=settled(picture=PICTURE))


def test_a_remix_has_a_prompt_of_its_own():
    with pytest.raises(InvalidRequest, match="empty"):
        settled(prompt=" ", remix_of=plain_job())
