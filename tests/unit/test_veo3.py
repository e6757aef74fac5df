"""The model veo3 over the wire: what is ordered of Veo, what comes back, and what a crash costs."""

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.emulators.gcs import gcs_server
from services.emulators.vertex import API_KEY, vertex_server
from services.emulators.vertex_script import Failed, Filtered
from services.gpu_worker.backends.backend import Clip
from services.gpu_worker.backends.veo3 import Veo3
from shared.catalog import Size
from shared.config_sections import Vertex
from shared.errors import BackendUnavailable, InvalidRequest, ModelUnavailable, PromptRefused
from tests.unit.buckets import put_clip
from tests.unit.clips import opened
from tests.unit.segment_watching import SEGMENT, Canceled, Watching
from tests.unit.vertex_under_test import POLL, PROMPT, SUBMIT, assert_discreet

ORDERED = "Ordered a clip of 4 s from Veo, 16:9 at 720p, without sound."
WITH_LAST_FRAME = "veo-3.1-generate-001"
FOLDER = "gs://promptreel/segments"


@pytest.fixture
def gcs(monkeypatch):
    with gcs_server(buckets=["promptreel"]) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def server(gcs):
    with vertex_server(polls=2, store=lambda uri, clip: put_clip(gcs, uri, clip)) as running:
        yield running


@pytest.fixture
def section(server, tmp_path):
    (tmp_path / "api.key").write_text(f"{API_KEY}\n")
    return Vertex(api_key_file=tmp_path / "api.key", base_url=server.url, request_seconds=20)


@pytest.fixture
def watching():
    return Watching()


@pytest.fixture
def generate(section, watching):
    """Nobody waits for real: the watcher's clock goes on by what is slept."""

    def made(segment=SEGMENT, watcher=watching, **change) -> Clip:
        model = Veo3(changed(section, **change), clock=watcher.clock, sleep=watcher.sleep)
        return model.generate(segment, watcher)

    return made


def changed(section: Vertex, **change) -> Vertex:
    return Vertex.model_validate(section.model_dump() | change)


def calls(server) -> list[str]:
    return [asked.call for asked in server.script.asked]


def sent(server) -> dict:
    """The order."""
    return next(asked.body for asked in server.script.asked if asked.call == SUBMIT)


def seconds_of(clip: Clip) -> float:
    with opened(clip.content) as container:
        return container.duration / 1_000_000


def picture(*colour: int) -> np.ndarray:
    """Another colour in one corner: neither its sides nor its channels can be mixed up."""
    pixels = np.full((36, 64, 3), colour, dtype=np.uint8)
    pixels[:8, :8] = (1, 2, 3)
    return pixels


# --- a clip


def test_a_clip_is_ordered_waited_for_and_comes_as_it_is(server, generate, watching):
    clip = generate(poll_seconds=5)
    assert seconds_of(clip) == 4
    assert calls(server) == [SUBMIT, POLL, POLL, POLL]
    (operation,) = watching.operations
    assert {asked.body.get("operationName") for asked in server.script.asked[1:]} == {operation}
    assert watching.notes == [ORDERED, "The clip is there; waited 15 s for it."]


def test_between_two_polls_it_waits_as_configured_and_looks_up_all_the_time(generate, watching):
    generate(poll_seconds=4)
    assert watching.now == pytest.approx(3 * 4)
    assert watching.looks >= watching.now / 0.25


def test_whoever_waits_long_is_told_now_and_then(server, generate, watching):
    server.operations.polls = 10
    generate(poll_seconds=9)
    waiting = [note for note in watching.notes if note.startswith("Still waiting")]
    assert waiting == [f"Still waiting for Veo: {seconds} s." for seconds in (30, 60, 90)]


@pytest.mark.parametrize(
    ("length", "seconds"),
    [
        ((24, 24), 4),
        ((96, 24), 4),
        ((97, 24), 6),
        ((81, 16), 6),
        ((120, 24), 6),
        ((145, 24), 8),
        ((192, 24), 8),
    ],
)
def test_the_shortest_clip_that_holds_the_segment_is_ordered(
    server, generate, watching, length, seconds
):
    frames, fps = length
    clip = generate(replace(SEGMENT, frames=frames, fps=fps))
    assert sent(server)["parameters"]["durationSeconds"] == seconds
    assert seconds_of(clip) == seconds
    told = [note for note in watching.notes if "charges" in note]
    assert bool(told) == (frames < seconds * fps)


def test_who_pays_is_told_what_is_cut(generate, watching):
    generate(replace(SEGMENT, frames=120))
    assert watching.notes[-1] == "Veo makes and charges 6 s; the last 1 s are cut."


def test_a_longer_segment_is_refused_before_anything_is_ordered(server, generate):
    with pytest.raises(InvalidRequest) as refused:
        generate(replace(SEGMENT, frames=193))
    assert refused.value.field == "duration"
    assert calls(server) == []


@pytest.mark.parametrize(
    ("size", "ratio", "resolution"),
    [
        (Size(1280, 720), "16:9", "720p"),
        (Size(832, 480), "16:9", "720p"),
        (Size(640, 640), "16:9", "720p"),
        (Size(720, 1280), "9:16", "720p"),
        (Size(1920, 1080), "16:9", "1080p"),
        (Size(1080, 1920), "9:16", "1080p"),
    ],
)
def test_the_clip_is_of_the_shape_and_size_nearest_to_the_segments(
    server, generate, size, ratio, resolution
):
    generate(replace(SEGMENT, size=size))
    asked = sent(server)["parameters"]
    assert (asked["aspectRatio"], asked["resolution"]) == (ratio, resolution)


def test_what_the_segment_says_is_sent(server, generate):
    generate(replace(SEGMENT, negative_prompt="rain", seed=2**63 - 1), veo_model=WITH_LAST_FRAME)
    assert server.script.asked[0].model == WITH_LAST_FRAME
    assert sent(server)["instances"] == [{"prompt": PROMPT}]
    assert sent(server)["parameters"]["negativePrompt"] == "rain"
    assert sent(server)["parameters"]["seed"] == (2**63 - 1) % 2**32


@pytest.mark.parametrize("sound", [True, False])
def test_a_clip_has_sound_where_it_is_configured(server, generate, watching, sound):
    clip = generate(sound=sound)
    assert sent(server)["parameters"]["generateAudio"] is sound
    with opened(clip.content) as container:
        assert bool(container.streams.audio) is sound
    assert f"{'with' if sound else 'without'} sound." in watching.notes[0]


def test_pictures_are_sent_as_they_are_to_the_last_bit(server, generate):
    first, last = picture(200, 30, 40), picture(30, 40, 200)
    generate(replace(SEGMENT, first_frame=first, last_frame=last), veo_model=WITH_LAST_FRAME)
    (instance,) = sent(server)["instances"]
    for name, pixels in (("image", first), ("lastFrame", last)):
        assert instance[name]["mimeType"] == "image/png"
        # Google's client writes the alphabet for URLs.
        content = base64.b64decode(instance[name]["bytesBase64Encoded"], altchars=b"-_")
        with Image.open(BytesIO(content)) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), pixels)


def test_four_segments_are_made_side_by_side(server, section, monkeypatch):
    meeting = threading.Barrier(4, timeout=20)
    submit = server.operations.submit

    def together(*order):
        meeting.wait()
        return submit(*order)

    monkeypatch.setattr(server.operations, "submit", together)
    model = Veo3(changed(section, poll_seconds=0.05))
    watchers = [Watching() for _ in range(4)]
    segments = [replace(SEGMENT, prompt=f"{PROMPT} {n}") for n in range(4)]
    with ThreadPoolExecutor(4) as threads:
        clips = list(threads.map(model.generate, segments, watchers))
    assert len({clip.content for clip in clips}) == 4
    assert len({watcher.operation for watcher in watchers}) == 4


# --- an operation outlives who ordered it


def test_another_process_goes_on_with_the_operation_that_was_ordered(server, generate):
    first = Watching(stop_at_look=20)
    with pytest.raises(Canceled):
        generate(watcher=first)
    second = Watching(operation=first.operation)
    assert seconds_of(generate(watcher=second)) == 4
    assert calls(server).count(SUBMIT) == 1
    assert second.operations == []
    assert second.notes[0] == "Waiting for the clip that was ordered before."
    # Somebody may come for it once more: it is there at once.
    third = Watching(operation=first.operation)
    generate(watcher=third)
    assert third.now == 0


def test_a_lost_operation_is_ordered_anew_and_that_is_told(server, generate):
    lost = Watching()
    generate(watcher=lost)
    server.operations.forget()
    watching = Watching(operation=lost.operation)
    assert seconds_of(generate(watcher=watching)) == 4
    assert calls(server).count(SUBMIT) == 2
    assert watching.operations == [watching.operation]
    assert watching.operation != lost.operation
    assert watching.notes[1:3] == [
        "Vertex AI does not know this operation any more. Ordering another one.",
        ORDERED,
    ]


def test_a_saved_name_that_is_none_is_ordered_anew(server, generate):
    generate(watcher=Watching(operation="../../elsewhere"))
    assert calls(server).count(SUBMIT) == 1


def test_an_operation_that_ends_by_chance_is_ordered_anew_but_not_for_ever(
    server, generate, watching
):
    server.script.next_clip(Failed(13, PROMPT))
    assert seconds_of(generate()) == 4
    assert len(watching.operations) == 2
    server.script.next_clip(Failed(13, PROMPT))
    server.script.next_clip(Failed(14, PROMPT))
    with pytest.raises(BackendUnavailable) as unavailable:
        generate(watcher=Watching())
    assert unavailable.value.retry
    assert_discreet(unavailable.value, *watching.operations)
    assert calls(server).count(SUBMIT) == 4


def test_an_operation_is_known_before_anything_else_can_happen(server, generate, watching):
    told = []
    watching.ordered = lambda name: told.append((name, list(watching.notes), calls(server)))
    generate()
    ((_, notes, before),) = told
    assert (notes, before) == ([], [SUBMIT])


# --- a cancel


def test_nothing_is_ordered_for_who_has_canceled(server, generate):
    with pytest.raises(Canceled):
        generate(watcher=Watching(stop_at_look=1))
    assert calls(server) == []


@pytest.mark.parametrize("wait", ["poll", "retry"])
def test_a_cancel_is_heard_within_half_a_second(server, section, wait):
    watching = Watching()
    if wait == "retry":
        server.script.fail(SUBMIT, 429, retry_after="50")
    model = Veo3(changed(section, poll_seconds=60))
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(model.generate, SEGMENT, watching)
        while not watching.notes:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not running.done()
        watching.canceled.set()
        canceled_at = time.monotonic()
        with pytest.raises(Canceled):
            running.result(timeout=10)
    assert time.monotonic() - canceled_at < 0.5


# --- what goes wrong


@pytest.mark.parametrize("call", [SUBMIT, POLL])
def test_what_passes_is_waited_out_and_told(server, generate, watching, call):
    server.script.fail(call, 429, message=PROMPT, retry_after="17")
    server.script.fail(call, 503, message=PROMPT)
    assert seconds_of(generate()) == 4
    retries = [note for note in watching.notes if "Asking again" in note]
    assert retries[0].startswith("Vertex AI has no capacity or quota left (429 RESOURCE_EXHAUSTED)")
    assert retries[0].endswith("Asking again in 17 s.")
    assert "503" in retries[1]


def test_retries_end_where_it_is_configured_and_keep_the_operation(server, generate, watching):
    server.script.fail(POLL, 503, count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        generate(max_retries=1)
    assert_discreet(unavailable.value)
    assert calls(server) == [SUBMIT, POLL, POLL]
    generate(max_retries=1)
    assert calls(server).count(SUBMIT) == 1


@pytest.mark.parametrize(
    "outcome", [Filtered(), Filtered((PROMPT,)), Failed(3, "usage guidelines")]
)
def test_a_filtered_clip_is_the_requesters(server, generate, outcome):
    server.script.next_clip(outcome)
    with pytest.raises(PromptRefused) as refused:
        generate()
    assert_discreet(refused.value)
    assert calls(server).count(SUBMIT) == 1


@pytest.mark.parametrize("content", ["", "Tm90IGEgY2xpcC4=", "%"])
def test_what_is_no_clip_is_asked_for_once_more(server, generate, watching, content):
    video = {"bytesBase64Encoded": content, "mimeType": "video/mp4"}
    server.script.say(POLL, {"done": True, "response": {"videos": [video]}}, count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        generate()
    assert_discreet(unavailable.value)
    assert calls(server) == [SUBMIT, POLL, POLL]
    assert seconds_of(generate()) == 4


def test_a_request_that_hangs_is_given_up_as_configured(server, generate, watching):
    server.script.delay(SUBMIT, 0.6)
    generate(request_seconds=0.3)
    assert watching.notes[0].startswith("Vertex AI did not answer in time.")


def test_nothing_that_is_told_holds_a_secret(server, generate, section):
    watching = Watching()
    server.script.fail(SUBMIT, 503, message=PROMPT)
    server.script.babble(POLL)
    server.script.next_clip(Failed(13, PROMPT))
    generate(replace(SEGMENT, negative_prompt="rainy"), watching, output_gcs_uri=FOLDER)
    assert len(watching.notes) >= 6
    secrets = (PROMPT, "rainy", API_KEY, *watching.operations, FOLDER, str(section.api_key_file))
    for note in watching.notes:
        assert not any(secret in note for secret in secrets), note


# --- a clip in a bucket


def test_a_clip_in_a_bucket_is_copied_and_left_there(server, gcs, generate):
    clip = generate(output_gcs_uri=FOLDER)
    assert sent(server)["parameters"]["storageUri"] == FOLDER
    (there,) = gcs.objects.list("promptreel", prefix="segments/").objects
    assert gcs.objects.content(there).read_bytes() == clip.content
    assert seconds_of(clip) == 4


def test_a_bucket_that_is_away_for_a_moment_is_waited_for(gcs, generate, watching):
    gcs.faults.fail(2, path="/download")
    assert seconds_of(generate(output_gcs_uri=FOLDER)) == 4
    assert [note[:27] for note in watching.notes if "again" in note] == [
        "Cloud Storage failed (503)."
    ] * 2


def test_a_bucket_that_stays_away_costs_no_second_clip(server, gcs, generate):
    gcs.faults.fail(4, path="/download")
    with pytest.raises(BackendUnavailable) as unavailable:
        generate(output_gcs_uri=FOLDER)
    assert_discreet(unavailable.value)
    assert seconds_of(generate(output_gcs_uri=FOLDER)) == 4
    assert calls(server).count(SUBMIT) == 1


def test_a_bucket_that_may_not_be_read_is_the_operators(gcs, generate):
    gcs.faults.fail(path="/download", status="403 Forbidden")
    with pytest.raises(ModelUnavailable, match=r"vertex\.output_gcs_uri") as refused:
        generate(output_gcs_uri=FOLDER)
    assert_discreet(refused.value, FOLDER)
