import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from services.gpu_worker.engine.video import encode_video
from shared.catalog import Size
from shared.errors import InvalidRequest
from tests.unit.films import moving_bar

REPOSITORY = Path(__file__).parents[2]
FPS = 16
SIZE = Size(208, 120)


@pytest.fixture(scope="module")
def frames():
    return moving_bar()


@pytest.fixture(scope="module")
def video(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "final_video.mp4"
    encode_video(frames, path, fps=FPS, size=SIZE)
    return path


def _decode(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def _top_level_boxes(path):
    """The four-letter names of an MP4's outermost boxes, in file order."""
    data, names, offset = path.read_bytes(), [], 0
    while offset < len(data):
        names.append(data[offset + 4 : offset + 8].decode())
        offset += int.from_bytes(data[offset : offset + 4])
    return names


def test_it_is_h264_in_yuv420p_of_the_ordered_size_and_rate(video):
    with av.open(str(video)) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (208, 120)
        assert stream.average_rate == FPS
        assert stream.duration * stream.time_base == Fraction(17, FPS)


def test_no_frame_is_lost_and_each_has_its_time(video):
    decoded = _decode(video)

    assert [frame.pts * frame.time_base for frame in decoded] == [
        Fraction(index, FPS) for index in range(17)
    ]


def test_the_index_comes_before_the_pictures_so_that_players_start_at_once(video):
    boxes = _top_level_boxes(video)

    assert boxes.index("moov") < boxes.index("mdat")


def test_colours_are_tagged_as_bt709(video):
    with av.open(str(video)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (1, 1, 1)
        assert codec.color_range == 1  # the "limited" one that every player expects


def test_the_pictures_are_those_that_went_in(video, frames):
    for decoded, original in zip(_decode(video), frames, strict=True):
        enlarged = Image.fromarray(original).resize((208, 120), Image.Resampling.LANCZOS)
        shown = decoded.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown - np.asarray(enlarged)).mean() < 4


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (20, 40, 220)])
def test_a_plain_colour_comes_back_as_it_went_in(tmp_path, color):
    plain = np.full((5, 64, 64, 3), color, np.uint8)

    encode_video(plain, tmp_path / "plain.mp4", fps=FPS, size=Size(64, 64))

    shown = _decode(tmp_path / "plain.mp4")[2].to_ndarray(format="rgb24")
    assert np.abs(shown.astype(int) - color).max() <= 4


def test_the_same_frames_give_the_same_bytes(video, frames, tmp_path):
    encode_video(frames, tmp_path / "again.mp4", fps=FPS, size=SIZE)

    assert (tmp_path / "again.mp4").read_bytes() == video.read_bytes()


def test_the_bytes_do_not_depend_on_what_memory_held_before(frames, tmp_path):
    np.save(tmp_path / "frames.npy", frames)
    program = (
        "import sys, hashlib; from pathlib import Path; import numpy as np;"
        "from services.gpu_worker.engine.video import encode_video; from shared.catalog import Size;"
        "scratch = Path(sys.argv[1]); frames = np.load(scratch / 'frames.npy');"
        "encode_video(frames, scratch / 'clip.mp4', fps=16, size=Size(208, 120));"
        "print(hashlib.sha256((scratch / 'clip.mp4').read_bytes()).hexdigest())"
    )

    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=REPOSITORY,
            # glibc fills fresh memory with this byte.
            env=os.environ | {"MALLOC_PERTURB_": filling},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for filling in ("0", "85", "255")
    }

    assert len(digests) == 1


def test_every_frame_is_reported(frames, tmp_path):
    seen = []

    encode_video(frames, tmp_path / "clip.mp4", fps=FPS, size=SIZE, on_frame=seen.append)

    assert seen == list(range(1, 18))


def test_stopping_in_the_middle_leaves_no_file(frames, tmp_path):
    def stop(done):
        if done == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_video(frames, tmp_path / "clip.mp4", fps=FPS, size=SIZE, on_frame=stop)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [Size(207, 120), Size(208, 119)], ids=str)
def test_an_odd_size_is_refused(frames, tmp_path, size):
    with pytest.raises(InvalidRequest, match=f"must be even, not {size}"):
        encode_video(frames, tmp_path / "clip.mp4", fps=FPS, size=size)

    assert list(tmp_path.iterdir()) == []


def test_frames_may_come_one_by_one(video, frames, tmp_path):
    encode_video(iter(frames), tmp_path / "streamed.mp4", fps=FPS, size=SIZE)

    assert (tmp_path / "streamed.mp4").read_bytes() == video.read_bytes()
