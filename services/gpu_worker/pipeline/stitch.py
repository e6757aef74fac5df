"""Stage 4, stitch: the segments' files become those the caller gets."""

from collections.abc import Iterator
from pathlib import Path

from services.gpu_worker.engine.joining import Joined, Piece, join_pieces
from services.gpu_worker.engine.sheets import Sheets, SheetSizes, save_sheets
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.pipeline.watcher import stop_if_canceled
from services.gpu_worker.protocol import FileKind, RenderedFile
from shared.catalog import Size

VIDEO_NAME = "final_video.mp4"
POSTER_NAME = "poster.jpg"
SPRITESHEET_NAME = "spritesheet.jpg"
SEAMS_NAME = "seams.png"

# Looking for the pictures is quicker than joining, unless joining is mere copying.
_JOINING = 0.6


def stitch(
    pieces: tuple[Piece, ...], production: Production
) -> tuple[int, tuple[RenderedFile, ...]]:
    """How many frames the video has, and its files: video, poster, spritesheet, and the seams if any.

    Raises ``RenderCanceled`` between two frames.
    """
    command, watcher, size = production.command, production.watcher, production.output_size
    folder = command.work_dir

    def on_frame(done: int, of: int) -> None:
        stop_if_canceled(watcher)
        watcher.progress("stitch", _JOINING * done / of)

    video = folder / VIDEO_NAME
    joined = join_pieces(
        pieces,
        video,
        fps=command.fps,
        size=size,
        crossfade_frames=command.crossfade_frames,
        on_frame=on_frame,
    )
    watcher.log(_told(joined, pieces, video.stat().st_size))
    sheets = Sheets(folder / POSTER_NAME, folder / SPRITESHEET_NAME, folder / SEAMS_NAME)
    sizes = save_sheets(
        video,
        sheets,
        size=size,
        fps=command.fps,
        seams=joined.seams,
        on_picture=lambda: stop_if_canceled(watcher),
    )
    return joined.frames, tuple(_files(sheets, sizes, video, size))


def _told(joined: Joined, pieces: tuple[Piece, ...], size_bytes: int) -> str:
    joining = f"{len(pieces)} segments joined, " if len(pieces) > 1 else ""
    how = "as they are" if joined.remuxed else "encoded again"
    return f"stitch: {joining}{joined.frames} frames {how}, {size_bytes / 1e6:.1f} MB"


def _files(sheets: Sheets, sizes: SheetSizes, video: Path, size: Size) -> Iterator[RenderedFile]:
    yield _file("video", video, "video/mp4", size)
    yield _file("poster", sheets.poster, "image/jpeg", sizes.poster)
    yield _file("spritesheet", sheets.spritesheet, "image/jpeg", sizes.spritesheet)
    if sheets.seams is not None and sizes.seams is not None:
        yield _file("seams", sheets.seams, "image/png", sizes.seams)


def _file(kind: FileKind, path: Path, content_type: str, size: Size) -> RenderedFile:
    return RenderedFile(
        kind=kind, path=path, content_type=content_type, width=size.width, height=size.height
    )
