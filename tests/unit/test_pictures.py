import numpy as np
import pytest

from services.gpu_worker.engine.footage import frame_at, look_into
from services.gpu_worker.engine.pictures import fit, read_picture, save_picture
from shared.catalog import Size
from shared.errors import RenderCrashed
from tests.unit.films import film, film_elsewhere, picture


@pytest.fixture
def noise():
    return np.random.default_rng(7).integers(0, 256, (32, 48, 3), np.uint8)


def test_a_png_keeps_every_pixel(noise, tmp_path):
    save_picture(noise, tmp_path / "frame.png")

    read = read_picture(tmp_path / "frame.png")

    assert read.dtype == np.uint8
    assert np.array_equal(read, noise)
    assert [path.name for path in tmp_path.iterdir()] == ["frame.png"]


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=str)
def test_a_file_that_is_no_picture_is_worth_another_attempt(tmp_path, content):
    if content is not None:
        (tmp_path / "frame.png").write_bytes(content)

    with pytest.raises(RenderCrashed, match=r"^A picture's file cannot be read\.$"):
        read_picture(tmp_path / "frame.png")


def framed(width, height, edge_x, edge_y):
    """White, with black edges of these widths."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[edge_y : height - edge_y, edge_x : width - edge_x] = 255
    return pixels


def test_a_picture_of_the_size_is_left_alone(noise):
    assert fit(noise, Size(48, 32)) is noise


def test_what_is_too_wide_loses_its_sides():
    shown = fit(framed(1280, 720, 16, 0), Size(832, 480))  # 26:15 of 16:9: 1248 of 1280

    assert shown.shape == (480, 832, 3)
    assert shown.min() > 235  # a filter looks a little beyond its edge


def test_what_is_too_high_loses_top_and_bottom():
    shown = fit(framed(64, 96, 0, 16), Size(32, 32))

    assert shown.shape == (32, 32, 3)
    assert shown.min() > 235  # a filter looks a little beyond its edge


def test_nobody_sees_a_squeeze_of_less_than_a_hundredth():
    edged = framed(1000, 500, 4, 0)

    assert fit(edged, Size(504, 254))[:, 0].max() < 128  # the edges are still there
    assert fit(edged, Size(490, 250))[:, 0].min() > 128  # here they are cut off


@pytest.mark.parametrize(("index", "expected"), [(0, 0), (9, 9), (-1, 22), (-3, 20)])
def test_a_frame_is_found_by_its_index(tmp_path, index, expected):
    file = film(tmp_path / "clip.mp4", range(23))

    found = frame_at(file, index)

    assert found.shape == (32, 64, 3)
    assert np.abs(found.astype(int) - picture(expected)).mean() < 12


def test_a_frame_that_is_not_there_is_an_error(tmp_path):
    file = film(tmp_path / "clip.mp4", range(3))

    with pytest.raises(RenderCrashed):
        frame_at(file, 3)


def test_a_file_tells_its_size_frames_and_length(tmp_path):
    ours = look_into(film(tmp_path / "ours.mp4", range(24), hertz=500))
    theirs = look_into(film_elsewhere(tmp_path / "theirs.mp4", range(24), fps=24))

    assert (ours.frames, ours.size, float(ours.seconds)) == (24, Size(64, 32), 1.5)
    assert (theirs.frames, theirs.size, float(theirs.seconds)) == (24, Size(64, 32), 1.0)
    assert ours.audio
    assert theirs.audio is None
