import numpy as np
import pytest
from PIL import Image

from services.gpu_worker.engine.seams_sheet import SEAM_FRAMES
from services.gpu_worker.engine.sheets import (
    Sheets,
    save_poster,
    save_seams,
    save_sheets,
    save_spritesheet,
)
from services.gpu_worker.engine.video import encode_video
from shared.catalog import Size
from shared.errors import RenderCrashed
from tests.unit.films import BITS, DARK, LIGHT, film, moving_bar, picture

FPS = 16
SIZE = Size(208, 120)
WIDE = Size(416, 240)


@pytest.fixture(scope="module")
def originals():
    return moving_bar()


@pytest.fixture(scope="module")
def video(originals, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "final_video.mp4"
    encode_video(originals, path, fps=FPS, size=SIZE)
    return path


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Forty frames that tell their number."""
    return film(tmp_path_factory.mktemp("numbered") / "video.mp4", range(40), size=WIDE)


def assert_like(shown, original, size=SIZE):
    scaled = Image.fromarray(original).resize((size.width, size.height), Image.Resampling.LANCZOS)
    assert np.abs(shown.astype(int) - np.asarray(scaled)).mean() < 4


def number_in(tile):
    bars = np.array_split(tile.mean(axis=2), BITS, axis=1)
    middles = [bar[:, bar.shape[1] // 4 : -bar.shape[1] // 4].mean() for bar in bars]
    return sum(1 << bit for bit, middle in enumerate(middles) if middle > (DARK + LIGHT) / 2)


def tiles(sheet, rows):
    """What is where the frames of each row should be: eight tiles of 208 × 120, four a side."""
    found = []
    for row in range(rows):
        top = 32 + 40 + row * (40 + 120 + 26 + 28)
        lefts = [32 + place * 218 for place in range(4)]
        lefts += [left + 4 * 218 + 26 for left in lefts]
        found.append([sheet[top : top + 120, left : left + 208] for left in lefts])
    return found


def test_the_poster_is_the_middle_frame_at_the_ordered_size(video, originals, tmp_path):
    save_poster(video, tmp_path / "poster.jpg", SIZE)

    with Image.open(tmp_path / "poster.jpg") as poster:
        assert poster.format == "JPEG"
        assert poster.size == (208, 120)
        assert_like(np.asarray(poster), originals[8])


def test_the_spritesheet_tells_the_clip_from_its_first_frame_to_its_last(
    video, originals, tmp_path
):
    size = save_spritesheet(video, tmp_path / "sheet.jpg", Size(832, 480))

    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert (size.width, size.height) == sheet.size == (5 * 208, 5 * 120)
        pixels = np.asarray(sheet)
    assert_like(pixels[:120, :208], originals[0])
    assert_like(pixels[-120:, -208:], originals[-1])
    assert_like(pixels[240:360, 416:624], originals[8])


def test_the_tiles_of_a_spritesheet_go_row_by_row(numbered, tmp_path):
    save_spritesheet(numbered, tmp_path / "sheet.jpg", WIDE)

    with Image.open(tmp_path / "sheet.jpg") as sheet:
        rows = np.split(np.asarray(sheet), 5)
    shown = [number_in(tile) for row in rows for tile in np.split(row, 5, axis=1)]
    assert shown == [round(place * 39 / 24) for place in range(25)]


def test_a_row_of_the_seams_sheet_has_the_frames_before_and_after_its_seam(numbered, tmp_path):
    size = save_seams(numbered, tmp_path / "seams.png", (13, 29), FPS)

    with Image.open(tmp_path / "seams.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (size.width, size.height)
        pixels = np.asarray(sheet)
    shown = [[number_in(tile) for tile in row] for row in tiles(pixels, 2)]
    assert shown == [list(range(13 - 4, 13 + 4)), list(range(29 - 4, 29 + 4))]
    assert len(shown[0]) == 2 * SEAM_FRAMES


def test_a_line_marks_where_the_seam_is(numbered, tmp_path):
    save_seams(numbered, tmp_path / "seams.png", (13,), FPS)

    with Image.open(tmp_path / "seams.png") as sheet:
        row = np.asarray(sheet.convert("RGB"))[100].astype(int)
    (marked,) = np.nonzero(row[:, 0] - row[:, 2] > 150)
    assert list(marked) == [32 + 4 * 218 - 10 + 17, 32 + 4 * 218 - 10 + 18]


def test_each_tile_tells_its_frame_and_time(numbered, tmp_path):
    """Other numbers are other captions; the same ones are the same, wherever they stand."""
    save_seams(numbered, tmp_path / "a.png", (13, 14), FPS)
    save_seams(numbered, tmp_path / "b.png", (13, 14), 2 * FPS)

    def captions(name):
        with Image.open(tmp_path / name) as sheet:
            pixels = np.asarray(sheet)
        return [
            [pixels[top + 120 : top + 146, left : left + 208] for left in (32, 32 + 218)]
            for top in (72, 72 + 214)
        ]

    (nine, ten), (also_ten, _) = captions("a.png")
    assert np.array_equal(ten, also_ten)
    assert not np.array_equal(nine, ten)
    assert not np.array_equal(nine, captions("b.png")[0][0])


def is_empty(tile):
    return bool((tile == 40).all())


def test_a_seam_near_the_video_s_end_leaves_tiles_empty(numbered, tmp_path):
    save_seams(numbered, tmp_path / "seams.png", (2, 39), FPS)

    with Image.open(tmp_path / "seams.png") as sheet:
        first, last = tiles(np.asarray(sheet), 2)
    assert [is_empty(tile) for tile in first] == [True] * 2 + [False] * 6
    assert [number_in(tile) for tile in first[2:]] == list(range(6))
    assert [is_empty(tile) for tile in last] == [False] * 5 + [True] * 3


def test_an_upright_video_has_upright_tiles(tmp_path):
    video = film(tmp_path / "video.mp4", range(9), size=Size(240, 416))

    size = save_seams(video, tmp_path / "seams.png", (4,), FPS)

    assert size == Size(2 * 32 + 8 * 120 + 6 * 10 + 36, 2 * 32 + 40 + 208 + 26)


def test_one_pass_makes_what_each_makes_alone(numbered, tmp_path):
    together = Sheets(*(tmp_path / name for name in ("poster.jpg", "sheet.jpg", "seams.png")))
    shown = []

    sizes = save_sheets(
        numbered, together, size=WIDE, fps=FPS, seams=(13,), on_picture=lambda: shown.append(1)
    )

    assert sizes.poster == save_poster(numbered, tmp_path / "1", WIDE)
    assert sizes.spritesheet == save_spritesheet(numbered, tmp_path / "2", WIDE)
    assert sizes.seams == save_seams(numbered, tmp_path / "3", (13,), FPS)
    for path, alone in ((together.poster, "1"), (together.spritesheet, "2"), (together.seams, "3")):
        assert path.read_bytes() == (tmp_path / alone).read_bytes()
    assert len(shown) == 28  # 25 tiles, and of the eight at the seam those that are not among them


def test_a_video_of_one_segment_has_no_seams_sheet(numbered, tmp_path):
    sheets = Sheets(*(tmp_path / name for name in ("poster.jpg", "sheet.jpg", "seams.png")))

    assert save_sheets(numbered, sheets, size=WIDE, fps=FPS).seams is None

    assert {path.name for path in tmp_path.iterdir()} == {"poster.jpg", "sheet.jpg"}


def test_stopping_in_the_middle_leaves_no_file(numbered, tmp_path):
    def stop():
        raise InterruptedError

    sheets = Sheets(*(tmp_path / name for name in ("poster.jpg", "sheet.jpg", "seams.png")))
    with pytest.raises(InterruptedError):
        save_sheets(numbered, sheets, size=WIDE, fps=FPS, seams=(13,), on_picture=stop)

    assert list(tmp_path.iterdir()) == []


def test_a_broken_video_is_worth_another_attempt(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"")

    with pytest.raises(RenderCrashed, match=r"^A rendered file cannot be read\.$"):
        save_poster(tmp_path / "video.mp4", tmp_path / "poster.jpg", SIZE)

    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_a_clip_of_fewer_frames_than_tiles_repeats_some(tmp_path):
    video = film(tmp_path / "video.mp4", [3], size=WIDE)

    save_spritesheet(video, tmp_path / "sheet.jpg", WIDE)
    save_poster(video, tmp_path / "poster.jpg", WIDE)

    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert number_in(np.asarray(sheet)[-120:, -208:]) == 3
    with Image.open(tmp_path / "poster.jpg") as poster:
        assert_like(np.asarray(poster), picture(3, WIDE), WIDE)
