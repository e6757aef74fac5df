"""What a provider has made, as the JPEG that its owner gets, and a small one of it."""

import os

import pytest
from PIL import Image, ImageCms

from shared.images.pictures import as_jpeg, thumbnail
from tests.unit.hostile_pictures import (
    SIZE,
    animation,
    exif_of,
    opened,
    picture,
    pixel_bomb,
    saved,
    scene,
    text_bomb,
    with_damaged_exif,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MANY = 10**6


@pytest.fixture
def source(tmp_path):
    return tmp_path / "made"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "picture.jpg"


def made(source, target, content, *, max_pixels=MANY) -> Image.Image:
    source.write_bytes(content)
    size = as_jpeg(source, target, max_pixels=max_pixels)
    image = opened(target.read_bytes())
    assert image.format == "JPEG"
    assert image.size == size
    return image


def near(pixel, expected) -> bool:
    return all(abs(one - other) < 12 for one, other in zip(pixel, expected, strict=True))


@pytest.mark.parametrize(
    "content",
    [picture("JPEG"), picture("JPEG", "CMYK"), with_damaged_exif("JPEG") + b"PK\x03\x04 and more"],
    ids=["JPEG", "CMYK", "odd"],
)
def test_a_jpeg_stays_as_it_is_byte_for_byte(source, target, content):
    source.write_bytes(content)
    as_jpeg(source, target, max_pixels=MANY)
    assert target.read_bytes() == content


def test_a_jpeg_on_its_side_is_as_large_as_it_is_shown(source, target):
    source.write_bytes(picture("JPEG", exif=exif_of(orientation=6)))
    assert as_jpeg(source, target, max_pixels=MANY) == SIZE[::-1]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_any_other_picture_becomes_a_jpeg(source, target, kind):
    image = made(source, target, picture(kind, icc_profile=SRGB))
    assert image.size == SIZE
    assert near(image.getpixel((10, 8)), (255, 0, 0))
    assert image.info["icc_profile"] == SRGB


def test_another_picture_is_turned_upright(source, target):
    image = made(source, target, picture("PNG", exif=exif_of(orientation=6)))
    assert image.size == SIZE[::-1]
    assert not image.getexif()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_picture_of_any_mode_looks_as_it_did(source, target, mode):
    image = made(source, target, picture("PNG", mode))
    assert image.mode in ("L", "RGB")
    assert near(image.convert("RGB").getpixel((80, 56)), (255, 255, 255))
    if mode in ("L", "I;16"):
        assert near([image.getpixel((10, 8))], [scene("L").getpixel((10, 8))])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_becomes_white(source, target, kind):
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    assert near(made(source, target, saved(clear, kind)).getpixel((5, 5)), (255, 255, 255))
    half = Image.new("RGBA", SIZE, (255, 0, 0, 128))
    assert near(made(source, target, saved(half, kind)).getpixel((5, 5)), (255, 127, 127))


def test_a_transparent_colour_of_a_palette_becomes_white(source, target):
    painted = scene("P")
    content = saved(painted, "PNG", transparency=painted.getpixel((10, 8)))
    image = made(source, target, content)
    assert near(image.getpixel((10, 8)), (255, 255, 255))
    assert not near(image.getpixel((80, 8)), (255, 255, 255))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JPEG, no PNG and no WebP"),
        (b"<html>Not found</html>", "no JPEG, no PNG and no WebP"),
        (saved(scene("P"), "GIF"), "no JPEG, no PNG and no WebP"),
        (picture("JPEG")[:-400], "damaged"),
        (picture("PNG")[:-30], "damaged"),
        (text_bomb(), "damaged"),
        (pixel_bomb(), "more than 1000000 pixels"),
        (animation("WEBP"), "animated"),
        (animation("PNG"), "animated"),
        (saved(Image.new("1", (66_000, 2)), "PNG"), "too long or too wide"),
    ],
    ids=["empty", "HTML", "GIF", "JPEG", "PNG", "text", "bomb", "WebP film", "APNG", "long"],
)
def test_what_is_no_such_picture_leaves_no_file(source, target, content, why):
    source.write_bytes(content)
    with pytest.raises(ValueError, match=why) as unusable:
        as_jpeg(source, target, max_pixels=MANY)
    assert str(source) not in str(unusable.value)
    assert [path.name for path in source.parent.iterdir()] == ["made"]


def test_the_limit_is_the_last_that_is_allowed(source, target):
    pixels = SIZE[0] * SIZE[1]
    assert made(source, target, picture(), max_pixels=pixels)
    with pytest.raises(ValueError, match=f"more than {pixels - 1} pixels: 96×64"):
        as_jpeg(source, target, max_pixels=pixels - 1)


# --- thumbnails


@pytest.mark.parametrize(
    ("size", "small"), [((1200, 800), (96, 64)), ((300, 900), (32, 96)), ((48, 32), (48, 32))]
)
def test_a_thumbnail_keeps_the_shape_and_is_never_larger(source, target, size, small):
    source.write_bytes(saved(scene(size=size), "JPEG"))
    assert thumbnail(source, target, pixels=96) == small
    image = opened(target.read_bytes())
    assert (image.format, image.size) == ("JPEG", small)
    assert near(image.getpixel((small[0] // 4, small[1] // 4)), (255, 0, 0))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_thumbnail_is_upright_and_says_nothing_else(source, target, mode):
    source.write_bytes(picture("JPEG", mode, exif=exif_of(orientation=6), comment=b"by me"))
    assert thumbnail(source, target, pixels=24) == (16, 24)
    image = opened(target.read_bytes())
    assert image.mode in ("L", "RGB")
    assert not {"exif", "comment"} & set(image.info)


def test_a_thumbnail_keeps_the_colour_profile(source, target):
    source.write_bytes(picture("JPEG", icc_profile=SRGB))
    thumbnail(source, target, pixels=24)
    assert opened(target.read_bytes()).info["icc_profile"] == SRGB


def test_there_is_no_thumbnail_of_a_damaged_picture(source, target):
    noise = saved(Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3)), "JPEG")
    source.write_bytes(noise[: len(noise) // 2])
    with pytest.raises(ValueError, match="damaged"):
        thumbnail(source, target, pixels=24)
    assert not target.exists()
