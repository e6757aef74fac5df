"""What callers send as pictures: all that is one comes through, and nothing but its pixels does."""

import struct
import warnings
import zlib

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from services.api.images.inputs import CheckedPicture, check_picture
from shared.errors import InvalidRequest
from tests.unit.hostile_pictures import (
    GPS_PLACE,
    SIZE,
    animation,
    chunk,
    exif_of,
    header,
    in_parts,
    jpeg_of_scans,
    opened,
    picture,
    pixel_bomb,
    png,
    saved,
    scene,
    text_bomb,
    with_chunk,
    with_damaged_exif,
    with_everything_said,
)

SCRIPT = b"<script>alert(1)</script>PK\x03\x04"
KINDS = ("JPEG", "PNG", "WEBP")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def check(content, *, max_bytes=10_000_000, max_pixels=1_000_000) -> CheckedPicture:
    return check_picture(content, field="image", max_bytes=max_bytes, max_pixels=max_pixels)


def refusal(content, **limits) -> str:
    with pytest.raises(InvalidRequest) as refused:
        check(content, **limits)
    assert refused.value.field == "image"
    message = refused.value.message
    assert "Send a JPEG, a PNG or a WebP of at most" in message
    # Nothing of the file, and nothing of how it is read.
    assert "BytesIO" not in message
    assert "/" not in message
    return message


def differ(one: Image.Image, other: Image.Image) -> float:
    """By how much, of 255, the average of the band that differs most."""
    assert one.size == other.size
    difference = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))
    return max(ImageStat.Stat(difference).mean)


# --- what comes through


@pytest.mark.parametrize(
    ("kind", "content_type", "extension"),
    [
        ("JPEG", "image/jpeg", "jpg"),
        ("PNG", "image/png", "png"),
        ("WEBP", "image/webp", "webp"),
    ],
)
def test_a_picture_is_known_by_its_content(kind, content_type, extension):
    checked = check(picture(kind))
    assert (checked.content_type, checked.extension) == (content_type, extension)
    assert (checked.width, checked.height) == SIZE
    assert opened(checked.content).format == kind


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_keeps_every_pixel(mode):
    content = picture("PNG", mode)
    image = opened(check(content).content)
    assert image.mode == mode
    assert image.tobytes() == opened(content).tobytes()


def test_what_is_transparent_in_a_palette_stays_so():
    content = saved(scene("P"), "PNG", transparency=0)
    image = opened(check(content).content)
    assert image.convert("RGBA").tobytes() == opened(content).convert("RGBA").tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_its_colours_and_its_coarseness(mode, progressive):
    content = picture("JPEG", mode, quality=40, progressive=progressive)
    image = opened(check(content).content)
    assert image.mode == mode
    assert differ(image, opened(content)) < 3
    assert image.quantization == opened(content).quantization


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_lossless_webp_stays_lossless(mode):
    content = picture("WEBP", mode, lossless=True, exact=True)
    image = opened(check(content).content)
    assert image.tobytes() == opened(content).tobytes()


def test_a_lossy_webp_stays_as_good_as_it_was():
    content = picture("WEBP", "RGBA", quality=60)
    checked = check(content)
    assert b"VP8L" not in checked.content
    image = opened(checked.content)
    assert image.mode == "RGBA"
    assert differ(image, opened(content)) < 3


def test_a_sixteen_bit_png_with_colours_comes_through():
    row = b"\0" + struct.pack(">HHH", 0xFFFF, 0x8000, 0) * 2
    deep = png(header(2, 1, depth=16), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b""))
    assert opened(check(deep).content).getpixel((0, 0)) == (255, 128, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_colour_profile_stays(kind):
    assert opened(check(picture(kind, icc_profile=SRGB)).content).info["icc_profile"] == SRGB


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "profile",
    [GPS_PLACE, SRGB[:-1] + b"..", SRGB.replace(b"RGB ", b"GRAY"), SRGB.replace(b"acsp", b"....")],
)
def test_a_profile_that_is_none_of_these_colours_goes(kind, profile):
    content = picture(kind, icc_profile=profile)
    assert "icc_profile" not in opened(check(content).content).info


# --- which way up, and what nobody should know


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_before_it_loses_what_says_so(kind, orientation):
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    content = picture(kind, exif=exif_of(orientation=orientation), **options)
    checked = check(content)
    image = opened(checked.content)
    assert (checked.width, checked.height) == image.size
    assert image.size == (SIZE if orientation < 5 else SIZE[::-1])
    assert 0x0112 not in image.getexif()
    stored = opened(content)
    assert differ(image, stored.transpose(TURNS[orientation]) if orientation > 1 else stored) < 3


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_learns_where_a_picture_was_taken(kind):
    content = with_everything_said(kind)
    assert GPS_PLACE in content
    checked = check(content)
    assert GPS_PLACE not in checked.content
    for said in (b"Exif", b"eXIf", b"EXIF", b"xmp", b"XMP ", b"tEXt", b"camera", b"Photoshop"):
        assert said not in checked.content
    image = opened(checked.content)
    assert not image.getexif()
    assert not {"comment", "exif", "xmp", "photoshop"} & set(image.info)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_after_a_picture_goes(kind):
    assert SCRIPT not in check(picture(kind) + SCRIPT).content


@pytest.mark.parametrize("name", [b"prVt", b"tEXt", b"eXIf"])
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_what_is_hidden_between_the_parts_of_a_picture_goes(name, before):
    assert SCRIPT not in check(with_chunk(name, SCRIPT, before=before)).content


def test_a_jpeg_whose_tables_cannot_be_kept_is_written_as_fine_as_makes_sense():
    content = bytearray(picture("JPEG", "L"))
    # Its only table is called the second one: that can be read, and not be written.
    content[content.index(b"\xff\xdb") + 4] = 1
    content[content.index(b"\xff\xc0") + 12] = 1
    image = opened(check(bytes(content)).content)
    assert differ(image, opened(bytes(content))) < 3
    assert max(image.quantization[0]) < max(opened(bytes(content)).quantization[1])


def test_the_second_picture_of_a_stereo_camera_goes():
    both = saved(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert opened(both).n_frames == 2
    checked = check(both)
    assert (checked.content_type, checked.width) == ("image/jpeg", SIZE[0])
    assert checked.content.count(b"\xff\xd8\xff") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_metadata_costs_nobody_a_picture_and_warns_nobody(kind):
    content = with_damaged_exif(kind)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        checked = check(content)
    assert heard == []
    assert (checked.width, checked.height) == SIZE[::-1]


def test_what_is_shown_of_a_checked_picture_is_safe_to_log():
    shown = repr(check(picture("PNG")))
    assert "width=96" in shown
    assert "PNG\\r" not in shown


# --- what is refused


@pytest.mark.parametrize(
    "content",
    [
        saved(scene("P"), "GIF"),
        saved(scene(), "TIFF"),
        saved(scene(), "BMP"),
        saved(scene(), "ICO"),
        saved(scene(), "PDF"),
        saved(scene(), "PPM"),
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><title>hello</title>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"\0\0\0\x20ftypavif",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"GIF89a" + picture("PNG"),
        b"\0" * 100,
    ],
    ids=[
        "GIF",
        "TIFF",
        "BMP",
        "ICO",
        "PDF",
        "PPM",
        "SVG",
        "HTML",
        "EPS",
        "AVIF",
        "WAV",
        "both",
        "0",
    ],
)
def test_what_is_no_jpeg_png_or_webp_is_refused(content):
    assert "no JPEG, no PNG and no WebP" in refusal(content)


def test_an_empty_file_is_refused():
    assert "empty" in refusal(b"")


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_are_the_last_that_is_allowed(kind):
    content, pixels = picture(kind), SIZE[0] * SIZE[1]
    assert check(content, max_bytes=len(content), max_pixels=pixels)
    assert "too many bytes" in refusal(content, max_bytes=len(content) - 1)
    assert f"{pixels - 1} pixels" in refusal(content, max_pixels=pixels - 1)


def webp_bomb() -> bytes:
    """A canvas of 16 million by 16 million less some."""
    vp8x = b"VP8X" + struct.pack("<IIHBHB", 10, 0, 0xFFFF, 0xFF, 0x00FF, 0)
    body = b"WEBP" + vp8x + picture("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_bomb() -> bytes:
    content = bytearray(picture("JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(content)


@pytest.mark.parametrize(
    "bomb",
    [
        pixel_bomb(),
        pixel_bomb(12_000, 12_000),
        pixel_bomb(2**31 - 1, 2**31 - 1),
        webp_bomb(),
        jpeg_bomb(),
    ],
    ids=["PNG", "PNG that Pillow warns of", "PNG, largest", "WebP", "JPEG"],
)
def test_a_bomb_of_pixels_is_refused_by_its_header(bomb):
    assert "more than 1000000 pixels" in refusal(bomb)


def test_a_bomb_is_refused_too_where_the_limit_lets_it_pass():
    assert "damaged" in refusal(pixel_bomb(9000, 9000), max_pixels=10**9)


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_bomb_of_remarks_is_refused(name, before):
    bomb = text_bomb(name, before=before)
    assert len(bomb) < 1_000_000
    assert "damaged" in refusal(bomb)


def test_a_picture_that_says_two_sizes_is_refused():
    body = picture("PNG")[8:]
    assert "damaged" in refusal(png(header(8, 8)) + body)
    content = picture("JPEG")
    frame = content.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", content, frame + 2)
    small = bytearray(content[frame : frame + 2 + length])
    small[5:9] = struct.pack(">HH", 8, 8)
    assert "damaged" in refusal(content[:frame] + bytes(small) + content[frame:])


def test_a_jpeg_of_very_many_scans_is_refused():
    assert check(jpeg_of_scans(20))
    assert "damaged" in refusal(jpeg_of_scans(200))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_very_many_empty_parts_is_refused(kind):
    assert check(in_parts(kind, 100))
    assert "damaged" in refusal(in_parts(kind, 20_001))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind):
    assert "animated" in refusal(animation(kind))


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("frames", [0, 1, 2, 2**31 + 1])
def test_a_png_that_says_it_is_animated_is_refused(before, frames):
    content = with_chunk(b"acTL", struct.pack(">II", frames, 0), before=before)
    assert "animated" in refusal(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_a_part_of_a_picture_is_refused(kind, part):
    noise = Image.effect_noise((64, 64), 90)
    content = saved(noise, kind)
    assert check(content)
    refusal(content[: int(len(content) * part)])


def test_a_png_with_damaged_pixels_is_refused():
    content = bytearray(saved(Image.effect_noise((64, 64), 90), "PNG"))
    content[len(content) // 2] ^= 0xFF
    assert "damaged" in refusal(bytes(content))


@pytest.mark.parametrize("palette", ["none", "empty", "late"])
def test_a_png_whose_pixels_have_no_palette_is_refused(palette):
    chunks = [
        header(8, 6, depth=1, colour=3),
        chunk(b"PLTE", b"") if palette == "empty" else b"",
        chunk(b"IDAT", zlib.compress(bytes(2 * 6))),
        chunk(b"PLTE", bytes(6)) if palette == "late" else b"",
        chunk(b"IEND", b""),
    ]
    assert "damaged" in refusal(png(*chunks))


def test_a_png_with_a_palette_comes_through():
    assert opened(check(picture("PNG", "P")).content).mode == "P"


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_done_to_a_file_it_is_a_picture_or_refused(kind):
    """Nothing else is raised, and nothing is warned of."""
    content = with_everything_said(kind)
    for place in range(0, len(content), max(len(content) // 300, 1)):
        for byte in (0x00, 0xFF, content[place] ^ 0x01):
            spoilt = content[:place] + bytes([byte]) + content[place + 1 :]
            try:
                opened(check(spoilt).content)
            except InvalidRequest:
                continue
