"""Files of pictures, some of them made to do harm; each byte of the harm is made here."""

import struct
import zlib
from io import BytesIO

from PIL import Image

# Halves of it are whole blocks of a JPEG: no colour smears.
SIZE = (96, 64)
GPS_PLACE = b"52.5163N 13.3777E"


def scene(mode="RGB", size=SIZE) -> Image.Image:
    """Its four corners differ, so that a turn is seen."""
    image = Image.new("RGB", size, "white")
    width, height = size
    image.paste("red", (0, 0, width // 2, height // 2))
    image.paste("green", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    if mode == "I;16":
        grey = image.convert("L").convert("I").point(lambda value: value * 257)
        return grey.convert("I;16")
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(
            Image.linear_gradient("L").resize(size).point(lambda value: max(value - 64, 0))
        )
        return image
    return image.convert(mode)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(kind="JPEG", mode="RGB", **options) -> bytes:
    return saved(scene(mode), kind, **options)


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


# --- PNG, chunk by chunk


def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def header(width: int, height: int, *, depth=8, colour=2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def pixel_bomb(width=30_000, height=30_000) -> bytes:
    """A few bytes that say they are gigabytes."""
    return png(
        header(width, height), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    )


def with_chunk(name: bytes, data: bytes, *, before=b"IDAT") -> bytes:
    """A good PNG with one more chunk."""
    content = picture("PNG")
    position = content.index(before) - 4
    return content[:position] + chunk(name, data) + content[position:]


def text_bomb(name=b"zTXt", *, before=b"IDAT") -> bytes:
    """200 MB of remarks, or of a colour profile, in 200 kB."""
    bomb = zlib.compress(bytes(200_000_000), 9)
    return with_chunk(name, b"k\0\0" + bomb, before=before)


def animation(kind: str) -> bytes:
    other = Image.new("RGB", SIZE, "black")
    return saved(scene(), kind, save_all=True, append_images=[other], duration=100)


# --- metadata


def exif_of(*, orientation=None, place=True) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "A maker of cameras"
    if orientation is not None:
        exif[0x0112] = orientation
    if place:
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 58.0), 29: GPS_PLACE.decode()})
    return exif.tobytes()


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><exif:GPSLatitude>" + GPS_PLACE + b"</exif:GPSLatitude>"


def with_everything_said(kind: str) -> bytes:
    """A picture that tells who took it, and where."""
    if kind == "PNG":
        content = picture("PNG", exif=exif_of())
        place = content.index(b"IDAT") - 4
        remarks = chunk(b"tEXt", b"Comment\0" + GPS_PLACE)
        remarks += chunk(b"zTXt", b"Place\0\0" + zlib.compress(GPS_PLACE))
        remarks += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        remarks += chunk(b"vnDr", GPS_PLACE)
        return content[:place] + remarks + content[place:]
    if kind == "WEBP":
        return picture("WEBP", exif=exif_of(), xmp=XMP)
    content = picture("JPEG", exif=exif_of(), xmp=XMP, comment=GPS_PLACE)
    photoshop = b"Photoshop 3.0\0" + GPS_PLACE
    segment = b"\xff\xed" + struct.pack(">H", len(photoshop) + 2) + photoshop
    return content[:2] + segment + content[2:]


def with_damaged_exif(kind: str) -> bytes:
    """Says there is more of it than there is; Pillow would warn."""
    broken = struct.pack("<4sIHHHIIHHII", b"II*\0", 8, 2, 0x0112, 3, 1, 6, 0x829A, 5, 9000, 10**6)
    return picture(kind, exif=b"Exif\0\0" + broken)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG that has its last scan again and again: each takes as long as all pixels do."""
    content = picture("JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + b"\xff\xd9"


def in_parts(kind: str, count: int) -> bytes:
    """A good picture with so many empty remarks more."""
    content = picture(kind)
    if kind == "JPEG":
        return content[:2] + b"\xff\xfe\0\2" * count + content[2:]
    if kind == "PNG":
        place = content.index(b"IDAT") - 4
        return content[:place] + chunk(b"prVt", b"") * count + content[place:]
    body = content[8:] + b"prVt\0\0\0\0" * count
    return b"RIFF" + struct.pack("<I", len(body)) + body
