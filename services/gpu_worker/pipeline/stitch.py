"""Stage 4, stitch: the segments' frames become the files the caller gets."""

from pathlib import Path
from typing import Literal

import numpy as np

from services.gpu_worker.backends.backend import Frames
from services.gpu_worker.engine.video import encode_video, save_poster, save_spritesheet
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import RenderedFile
from shared.catalog import Size

VIDEO_NAME = "final_video.mp4"
POSTER_NAME = "poster.jpg"
SPRITESHEET_NAME = "spritesheet.jpg"


def stitch(
    segments: tuple[Frames, ...], plan: Plan, work_dir: Path, watcher: Watcher
) -> tuple[RenderedFile, ...]:
    """Write video, poster and spritesheet. Raises ``RenderCanceled`` between two frames or files."""
    frames = np.concatenate(segments)

    def on_frame(done: int) -> None:
        stop_if_canceled(watcher)
        watcher.progress("stitch", done / len(frames))

    size = plan.output_size
    video, poster = work_dir / VIDEO_NAME, work_dir / POSTER_NAME
    spritesheet = work_dir / SPRITESHEET_NAME
    encode_video(frames, video, fps=plan.fps, size=size, on_frame=on_frame)
    stop_if_canceled(watcher)
    save_poster(frames, poster, size=size)
    stop_if_canceled(watcher)
    sheet_size = save_spritesheet(frames, spritesheet, size=size)
    watcher.log(f"stitch: {len(frames)} frames encoded, {video.stat().st_size / 1e6:.1f} MB")
    return (
        _file("video", video, "video/mp4", size),
        _file("poster", poster, "image/jpeg", size),
        _file("spritesheet", spritesheet, "image/jpeg", sheet_size),
    )


def _file(
    kind: Literal["video", "poster", "spritesheet"], path: Path, content_type: str, size: Size
) -> RenderedFile:
    return RenderedFile(
        kind=kind, path=path, content_type=content_type, width=size.width, height=size.height
    )
