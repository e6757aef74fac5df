"""Pieces of a video, joined: what is in the file is decoded and read back."""

import itertools
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from services.emulators.vertex_pictures import film_clip
from services.gpu_worker.engine.joining import Joined, Piece, join_pieces
from shared.catalog import Size
from shared.errors import InvalidRequest, RenderCrashed
from tests.unit.films import (
    FPS,
    RATE,
    SIZE,
    film,
    film_elsewhere,
    frames,
    loudness,
    numbers,
    pitch,
    seconds,
    wave,
)

AAC_FRAME = 1024 / RATE


@pytest.fixture
def joined(tmp_path):
    return tmp_path / "joined.mp4"


@pytest.fixture
def three(tmp_path):
    """Frames 0 to 16, 17 to 39, 40 to 56."""
    ranges = range(17), range(17, 40), range(40, 57)
    return [film(tmp_path / f"{place}.mp4", it) for place, it in enumerate(ranges)]


def pieces(files, **how):
    return [Piece(file, **how) for file in files]


def veo(path, seed, *, seconds=4, sound=True):
    """320 × 180 at 24 a second, a tone of 220 hertz, no edit lists."""
    clip = film_clip(
        seed,
        seconds=seconds,
        aspect_ratio="16:9",
        resolution="720p",
        first_frame=None,
        last_frame=None,
        sound=sound,
    )
    path.write_bytes(clip)
    return path


def packets(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, packet.dts * packet.time_base)
            for packet in container.demux(stream)
            if packet.dts is not None
        ]


def boxes(path):
    """The four-letter names of an MP4's outermost boxes, in file order."""
    data, names, offset = path.read_bytes(), [], 0
    while offset < len(data):
        names.append(data[offset + 4 : offset + 8].decode())
        offset += int.from_bytes(data[offset : offset + 4])
    return names


def streams(path):
    with av.open(str(path)) as container:
        return [stream.type for stream in container.streams]


# --- copied


def test_pieces_of_one_kind_are_copied_bit_for_bit(three, joined):
    told = join_pieces(pieces(three), joined, fps=FPS, size=SIZE)

    assert told == Joined(frames=57, seams=(17, 40), remuxed=True)
    assert numbers(joined) == list(range(57))
    before = [frame.to_ndarray() for file in three for frame in frames(file)]
    after = [frame.to_ndarray() for frame in frames(joined)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_copied_frames_come_evenly_with_no_gap_at_the_seams(three, joined):
    join_pieces(pieces(three), joined, fps=FPS, size=SIZE)

    shown = [frame.pts * frame.time_base for frame in frames(joined)]
    assert shown == [Fraction(index, FPS) for index in range(57)]
    assert seconds(joined, "video") == 57 / FPS


def test_frames_that_lean_on_later_ones_are_copied_in_order(tmp_path, joined):
    b_frames = {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0:keyint=9"}
    files = [
        film_elsewhere(tmp_path / f"{it}.mp4", range(it, it + 20), options=b_frames)
        for it in (0, 20)
    ]

    assert join_pieces(pieces(files), joined, fps=FPS, size=SIZE).remuxed

    shown = [frame.pts * frame.time_base for frame in frames(joined)]
    assert shown == [Fraction(index, FPS) for index in range(40)]
    assert numbers(joined) == list(range(40))
    copied = packets(joined, "video")
    assert [pts for pts, _ in copied] != sorted(pts for pts, _ in copied)
    decoded = [dts for _, dts in copied]
    assert {after - before for before, after in itertools.pairwise(decoded)} == {Fraction(1, FPS)}
    assert all(dts <= pts for pts, dts in copied)


def test_pieces_of_a_single_frame_are_in_step(tmp_path, joined):
    files = [film(tmp_path / f"{it}.mp4", range(it, it + 1)) for it in range(3)]
    files.append(film(tmp_path / "long.mp4", range(3, 20)))

    assert join_pieces(pieces(files), joined, fps=FPS, size=SIZE).remuxed

    assert numbers(joined) == list(range(20))
    shown = [frame.pts * frame.time_base for frame in frames(joined)]
    assert shown == [Fraction(index, FPS) for index in range(20)]


def test_one_piece_that_fits_stays_what_it_is(three, joined):
    told = join_pieces(pieces(three[:1]), joined, fps=FPS, size=SIZE, crossfade_frames=4)

    assert told == Joined(frames=17, seams=(), remuxed=True)
    assert packets(joined, "video") == packets(three[0], "video")


@pytest.mark.parametrize("crossfade_frames", [0, 2])
def test_the_index_comes_before_the_pictures(three, joined, crossfade_frames):
    join_pieces(pieces(three), joined, fps=FPS, size=SIZE, crossfade_frames=crossfade_frames)

    assert boxes(joined).index("moov") < boxes(joined).index("mdat")


def test_a_provider_s_clips_are_copied_with_their_sound(tmp_path, joined):
    files = [veo(tmp_path / f"{seed}.mp4", seed.encode()) for seed in "abc"]

    told = join_pieces(pieces(files), joined, fps=24, size=Size(320, 180))

    assert told == Joined(frames=288, seams=(96, 192), remuxed=True)
    before = [frame.to_ndarray() for file in files for frame in frames(file)]
    after = [frame.to_ndarray() for frame in frames(joined)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert seconds(joined, "audio") == seconds(joined, "video") == 12
    heard = [dts for _, dts in packets(joined, "audio")]
    steps = {after - before for before, after in itertools.pairwise(heard)}
    assert steps == {Fraction(1024, RATE)}


def test_copied_sound_stays_in_time_with_the_pictures(tmp_path, joined):
    # 17 frames are 49.8 packets of sound: were each piece's put after the last one's, packet by
    # packet, the twelfth would begin two packets late.
    tones = [500, 1000, 1500] * 4
    files = [
        film(tmp_path / f"{place}.mp4", range(17), hertz=hertz) for place, hertz in enumerate(tones)
    ]

    assert join_pieces(pieces(files), joined, fps=FPS, size=SIZE).remuxed

    assert abs(seconds(joined, "audio") - seconds(joined, "video")) <= AAC_FRAME
    assert_tones(wave(joined), tones, length=17 * RATE // FPS)


def test_files_that_count_in_milliseconds_fit_and_come_evenly(tmp_path, joined):
    how = {"fps": 24, "container": {"video_track_timescale": "1000"}}
    files = [film_elsewhere(tmp_path / f"{it}.mp4", range(it, it + 9), **how) for it in (0, 9)]
    assert Fraction(1, 24) not in {pts for pts, _ in packets(files[0], "video")}

    assert join_pieces(pieces(files), joined, fps=24, size=SIZE).remuxed

    shown = [frame.pts * frame.time_base for frame in frames(joined)]
    assert shown == [Fraction(index, 24) for index in range(18)]
    assert numbers(joined) == list(range(18))


# --- copied or encoded


@pytest.mark.parametrize(
    ("how", "order"),
    [
        ({"skip": 1}, {}),
        ({"frames": 16}, {}),
        ({}, {"fps": 24}),
        ({}, {"size": Size(32, 16)}),
        ({}, {"crossfade_frames": 1}),
    ],
    ids=str,
)
def test_whatever_changes_a_frame_is_encoded(three, joined, how, order):
    options = {"fps": FPS, "size": SIZE} | order

    assert not join_pieces(pieces(three, **how), joined, **options).remuxed


@pytest.mark.parametrize(
    "how",
    [{"options": {"bf": "0"}}, {"codec": "mpeg4"}, {"options": {"refs": "5"}}, {"fps": 15}],
    ids=str,
)
def test_a_piece_of_another_kind_is_encoded_with_the_others(three, tmp_path, joined, how):
    other = film_elsewhere(tmp_path / "other.mp4", range(57, 73), **how)

    told = join_pieces([*pieces(three), Piece(other)], joined, fps=FPS, size=SIZE)

    assert not told.remuxed
    assert numbers(joined)[:57] == list(range(57))


def test_a_piece_of_almost_the_same_rate_is_encoded_though_no_frame_falls_out(tmp_path, joined):
    file = film_elsewhere(tmp_path / "fast.mp4", range(5), fps=17)

    told = join_pieces([Piece(file)], joined, fps=FPS, size=SIZE)

    assert told == Joined(frames=5, seams=(), remuxed=False)
    assert numbers(joined) == list(range(5))


def test_to_show_all_there_are_is_no_cut(three, joined):
    assert join_pieces([Piece(three[0], frames=17)], joined, fps=FPS, size=SIZE).remuxed
    assert join_pieces([Piece(three[0], frames=18)], joined, fps=FPS, size=SIZE).frames == 17


def test_a_piece_that_leans_on_what_was_before_it_is_encoded(tmp_path, joined):
    """Its first picture is whole, yet not one after which a decoder forgets all others."""
    lean = {"options": {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=3"}}
    whole = film_elsewhere(tmp_path / "whole.mp4", range(24), **lean)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        keys = 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe and packet.dts is not None
            if packet.dts is not None and keys > 1:
                packet.stream = stream
                target.mux(packet)

    assert join_pieces([Piece(whole)], joined, fps=FPS, size=SIZE).remuxed
    assert not join_pieces([Piece(whole), Piece(cut)], joined, fps=FPS, size=SIZE).remuxed


# --- encoded


def test_no_frame_is_lost_or_doubled_at_encoded_seams(three, joined):
    told = join_pieces(
        [Piece(three[0]), Piece(three[1], skip=1), Piece(three[2], skip=2, frames=9)],
        joined,
        fps=FPS,
        size=SIZE,
    )

    assert told == Joined(frames=48, seams=(17, 39), remuxed=False)
    assert numbers(joined) == [*range(17), *range(18, 40), *range(42, 51)]
    shown = [frame.pts * frame.time_base for frame in frames(joined)]
    assert shown == [Fraction(index, FPS) for index in range(48)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (24, [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22]),
        (12, [0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11]),
    ],
)
def test_at_each_moment_the_frame_of_that_moment_is_shown(tmp_path, joined, rate, expected):
    one = film_elsewhere(tmp_path / "one.mp4", range(rate), fps=rate)
    two = film_elsewhere(tmp_path / "two.mp4", range(100, 100 + rate), fps=rate)

    told = join_pieces(pieces([one, two]), joined, fps=16, size=SIZE)

    assert told == Joined(frames=32, seams=(16,), remuxed=False)
    assert numbers(joined) == expected + [100 + index for index in expected]


def test_frames_to_skip_are_counted_at_the_joined_video_s_rate(tmp_path, joined):
    one = film_elsewhere(tmp_path / "one.mp4", range(24), fps=24)

    join_pieces([Piece(one, skip=2, frames=4)], joined, fps=16, size=SIZE)

    assert numbers(joined) == [3, 4, 6, 7]


def test_a_wider_piece_covers_the_frame_and_loses_its_sides(tmp_path, joined):
    wide = film(tmp_path / "wide.mp4", [0b01111110] * 5)  # dark bars left and right

    join_pieces(pieces([wide]), joined, fps=FPS, size=Size(48, 32))

    shown = frames(joined)[2].to_ndarray(format="gray")
    assert shown.shape == (32, 48)
    assert shown[:, 3:-3].min() > 200


def test_a_larger_piece_is_scaled(three, tmp_path, joined):
    large = film(tmp_path / "large.mp4", range(57, 70), size=Size(160, 80))

    join_pieces(pieces([*three, large]), joined, fps=FPS, size=SIZE)

    assert numbers(joined) == list(range(70))
    assert {(frame.width, frame.height) for frame in frames(joined)} == {(64, 32)}


def test_colours_survive_an_encoding(tmp_path, joined):
    """A provider's untagged ones, of a standard resolution, and our own."""
    file = veo(tmp_path / "veo.mp4", b"a colour", seconds=4, sound=False)
    before = frames(file)[0].to_ndarray(format="rgb24").mean(axis=(0, 1))

    join_pieces(pieces([file], skip=1), joined, fps=24, size=Size(320, 180))
    join_pieces(pieces([joined], skip=1), joined, fps=24, size=Size(320, 180))

    after = frames(joined)[0].to_ndarray(format="rgb24").mean(axis=(0, 1))
    assert np.abs(before - after).max() < 4


def test_an_odd_size_is_refused(three, joined):
    with pytest.raises(InvalidRequest, match="must be even, not 63x32"):
        join_pieces(pieces(three), joined, fps=FPS, size=Size(63, 32))


# --- crossfades


def test_a_crossfade_goes_evenly_from_one_piece_to_the_next(tmp_path, joined):
    dark = film(tmp_path / "dark.mp4", [0] * 10)
    light = film(tmp_path / "light.mp4", [255] * 10)

    told = join_pieces(pieces([dark, light]), joined, fps=FPS, size=SIZE, crossfade_frames=4)

    assert told == Joined(frames=16, seams=(6,), remuxed=False)
    shown = [frame.to_ndarray(format="rgb24").mean() for frame in frames(joined)]
    expected = [20] * 6 + [62, 104, 146, 188] + [230] * 6
    assert np.abs(np.subtract(shown, expected)).max() < 3


def test_a_crossfade_blends_the_last_frames_that_are_shown_with_the_first(tmp_path, joined):
    one = film(tmp_path / "one.mp4", range(10))
    two = film(tmp_path / "two.mp4", [*range(90, 93), *range(5, 8), *range(100, 110)])
    order = [Piece(one, frames=8), Piece(two, skip=3), Piece(one, skip=7)]

    told = join_pieces(order, joined, fps=FPS, size=SIZE, crossfade_frames=3)

    # What fades from a frame to the same one stays that: numbers 5 to 7 are in both.
    assert told == Joined(frames=8 + 13 + 3 - 6, seams=(5, 15), remuxed=False)
    assert numbers(joined)[:15] == [*range(8), *range(100, 107)]


def test_a_piece_that_is_shorter_than_its_crossfades_is_refused(three, joined):
    short = [Piece(three[0]), Piece(three[1], frames=7), Piece(three[2])]

    with pytest.raises(InvalidRequest, match=r"Segment 2 shows 7 frames, .* need 8"):
        join_pieces(short, joined, fps=FPS, size=SIZE, crossfade_frames=4)

    assert not joined.exists()
    short[1] = Piece(three[1], frames=8)
    told = join_pieces(short, joined, fps=FPS, size=SIZE, crossfade_frames=4)
    assert told.frames == 17 + 8 + 17 - 8


# --- sound


def assert_tones(heard, tones, *, length):
    """Each tone begins and ends within 15 ms of its time: one AAC frame hides no more."""
    unsure = RATE * 15 // 1000
    for place, hertz in enumerate(tones):
        begin, end = place * length + unsure, (place + 1) * length - unsure
        for window in (heard[begin:end], heard[begin : begin + 4096], heard[end - 4096 : end]):
            assert abs(pitch(window) - hertz) < 12, (place, hertz)


def test_encoded_sound_is_cut_to_what_is_shown(tmp_path, joined):
    one = film(tmp_path / "one.mp4", range(20), hertz=500)
    two = film(tmp_path / "two.mp4", range(20), hertz=1000)
    three = film(tmp_path / "three.mp4", range(20), hertz=1500)
    order = [Piece(one, frames=12), Piece(two, skip=8), Piece(three, skip=4, frames=12)]

    told = join_pieces(order, joined, fps=FPS, size=SIZE)

    assert told == Joined(frames=36, seams=(12, 24), remuxed=False)
    assert abs(seconds(joined, "audio") - seconds(joined, "video")) <= AAC_FRAME
    assert_tones(wave(joined), [500, 1000, 1500], length=12 * RATE // FPS)


def test_what_is_skipped_is_not_heard(tmp_path, joined):
    """One file, two pitches: 500 hertz for a second, then 1000."""
    parts = [film(tmp_path / f"{hertz}.mp4", range(16), hertz=hertz) for hertz in (500, 1000)]
    both = tmp_path / "both.mp4"
    join_pieces(pieces(parts), both, fps=FPS, size=SIZE)

    join_pieces([Piece(both, skip=8, frames=16)], joined, fps=FPS, size=SIZE)

    assert_tones(wave(joined), [500, 1000], length=8 * RATE // FPS)


def test_sound_fades_with_the_pictures(tmp_path, joined):
    one = film(tmp_path / "one.mp4", range(32), hertz=500)
    two = film(tmp_path / "two.mp4", range(32), hertz=1500)

    join_pieces(pieces([one, two]), joined, fps=FPS, size=SIZE, crossfade_frames=16)

    assert abs(seconds(joined, "audio") - 48 / FPS) <= AAC_FRAME
    heard = wave(joined)
    ratios = []
    for middle in (1.25, 1.5, 1.75):
        window = heard[int((middle - 0.05) * RATE) : int((middle + 0.05) * RATE)]
        strength = np.abs(np.fft.rfft(window))
        ratios.append(strength[150] / (strength[50] + strength[150]))
    assert np.abs(np.subtract(ratios, [0.25, 0.5, 0.75])).max() < 0.05
    assert_tones(heard[: RATE - 2048], [500], length=RATE - 2048)
    assert_tones(heard[2 * RATE + 2048 :], [1500], length=RATE - 2048)


def test_sound_of_another_rate_is_brought_to_one(tmp_path, joined):
    files = [
        film_elsewhere(tmp_path / f"{rate}.mp4", range(16), hertz=hertz, sample_rate=rate)
        for hertz, rate in ((500, 48_000), (1000, 44_100))
    ]

    assert not join_pieces(pieces(files), joined, fps=FPS, size=SIZE).remuxed

    with av.open(str(joined)) as container:
        audio = container.streams.audio[0]
        assert (audio.sample_rate, audio.layout.name) == (48_000, "stereo")
    assert_tones(wave(joined), [500, 1000], length=RATE)


@pytest.mark.parametrize("how", [{}, {"skip": 1}], ids=str)
def test_where_one_piece_is_silent_there_is_no_sound(three, tmp_path, joined, how):
    loud = film(tmp_path / "loud.mp4", range(57, 74), hertz=500)

    told = join_pieces(pieces([*three, loud], **how), joined, fps=FPS, size=SIZE)

    assert streams(joined) == ["video"]
    assert told.remuxed == (how == {})


def test_sound_that_ends_too_early_is_followed_by_silence(tmp_path, joined):
    """Copied, the next piece's would come too early, or the row would have a hole."""
    short = tmp_path / "short.mp4"
    whole = film(tmp_path / "whole.mp4", range(32), hertz=500)
    with av.open(str(whole)) as source, av.open(str(short), "w", format="mp4") as target:
        copies = [
            target.add_stream_from_template(source.streams.video[0], opaque=True),
            target.add_stream_from_template(source.streams.audio[0]),
        ]
        for packet in source.demux():
            late = packet.stream.type == "audio" and (packet.pts or 0) >= RATE
            if packet.dts is not None and not late:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)

    assert not join_pieces(pieces([short, whole]), joined, fps=FPS, size=SIZE).remuxed

    heard = wave(joined)
    assert_tones(heard[:RATE], [500], length=RATE)
    assert loudness(heard[RATE + 2048 : 2 * RATE - 2048]) < 0.001
    assert_tones(heard[2 * RATE :], [500], length=2 * RATE)


# --- what goes wrong, and what never does


def last_packet_at(file):
    with av.open(str(file)) as container:
        return max(packet.pos for packet in container.demux(video=0) if packet.dts is not None)


BROKEN = {
    "empty": lambda _: b"",
    "no video": lambda _: b"an apology in plain text" * 40,
    "cut within a frame": lambda file: file.read_bytes()[:-5],
    "cut between two frames": lambda file: file.read_bytes()[: last_packet_at(file)],
    "cut within the index": lambda file: file.read_bytes()[:400],
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("skip", [0, 1], ids=["copied", "encoded"])
def test_a_broken_piece_is_worth_another_attempt(three, joined, how, skip):
    three[1].write_bytes(BROKEN[how](three[1]))

    with pytest.raises(RenderCrashed, match=r"^A rendered file cannot be read\.$"):
        join_pieces(pieces(three, skip=skip), joined, fps=FPS, size=SIZE)

    assert sorted(joined.parent.iterdir()) == three


def test_a_piece_that_breaks_while_it_is_decoded_leaves_nothing(three, joined):
    data = bytearray(three[1].read_bytes())
    place = last_packet_at(three[1])
    data[place : place + 4] = b"\xff" * 4  # the length of what follows
    three[1].write_bytes(data)

    with pytest.raises(RenderCrashed, match=r"^A rendered file cannot be read\.$"):
        join_pieces(pieces(three), joined, fps=FPS, size=Size(32, 16))

    assert sorted(joined.parent.iterdir()) == three


def test_a_file_with_sound_only_is_no_piece(tmp_path, joined):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.sample_rate = RATE
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))

    with pytest.raises(RenderCrashed, match="cannot be read"):
        join_pieces([Piece(tmp_path / "sound.mp4")], joined, fps=FPS, size=SIZE)


def test_a_piece_of_which_nothing_is_left_to_show_is_an_error(three, joined):
    with pytest.raises(RenderCrashed, match="no frame that is to be shown"):
        join_pieces([Piece(three[0]), Piece(three[1], skip=23)], joined, fps=FPS, size=SIZE)


@pytest.mark.parametrize("crossfade_frames", [0, 2], ids=["copied", "encoded"])
def test_every_frame_is_reported(three, joined, crossfade_frames):
    seen = []

    join_pieces(
        pieces(three),
        joined,
        fps=FPS,
        size=SIZE,
        crossfade_frames=crossfade_frames,
        on_frame=lambda *done_of: seen.append(done_of),
    )

    total = 57 - 2 * crossfade_frames
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("crossfade_frames", [0, 2], ids=["copied", "encoded"])
@pytest.mark.parametrize("reason", [InterruptedError, ValueError], ids=lambda it: it.__name__)
def test_stopping_in_the_middle_leaves_no_file(three, joined, crossfade_frames, reason):
    def stop(done, of):
        if done == of // 2:
            raise reason

    with pytest.raises(reason):
        join_pieces(
            pieces(three),
            joined,
            fps=FPS,
            size=SIZE,
            crossfade_frames=crossfade_frames,
            on_frame=stop,
        )

    assert sorted(joined.parent.iterdir()) == three


@pytest.mark.parametrize("crossfade_frames", [0, 2], ids=["copied", "encoded"])
def test_the_same_pieces_give_the_same_bytes(tmp_path, crossfade_frames):
    files = [film(tmp_path / f"{it}.mp4", range(20), hertz=it) for it in (500, 700)]
    made = [tmp_path / "a.mp4", tmp_path / "b.mp4"]

    for target in made:
        join_pieces(pieces(files), target, fps=FPS, size=SIZE, crossfade_frames=crossfade_frames)

    assert made[0].read_bytes() == made[1].read_bytes()


def test_a_long_video_is_never_in_memory_as_a_whole(tmp_path, joined):
    size = Size(320, 160)
    file = film(tmp_path / "long.mp4", range(50), hertz=500, size=size)
    whole_bytes = 4 * 50 * size.width * size.height * 3

    tracemalloc.start()
    join_pieces(pieces([file] * 4), joined, fps=FPS, size=size, crossfade_frames=3)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < whole_bytes / 5
