"""Stage 4, stitch: the segments' frames become the files the caller gets."""

from pathlib import Path

import numpy as np

from services.gpu_worker.backends.backend import Frames
from services.gpu_worker.engine.video import encode_video, save_poster, save_spritesheet
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import RenderedFile

VIDEO_NAME = "final_video.mp4"
POSTER_NAME = "poster.jpg"
SPRITESHEET_NAME = "spritesheet.jpg"


def stitch(
    segments: tuple[Frames, ...], plan: Plan, work_dir: Path, watcher: Watcher
) -> tuple[RenderedFile, ...]:
    """Write video, poster and spritesheet. Raises ``RenderCanceled`` between two frames."""
    frames = np.concatenate(segments)

    def on_frame(done: int) -> None:
        stop_if_canceled(watcher)
        watcher.progress("stitch", done / len(frames))

    size = plan.output_size
    video, poster = work_dir / VIDEO_NAME, work_dir / POSTER_NAME
    spritesheet = work_dir / SPRITESHEET_NAME
    encode_video(frames, video, fps=plan.fps, size=size, on_frame=on_frame)
    save_poster(frames, poster, size=size)
    sheet_size = save_spritesheet(frames, spritesheet, size=size)
    watcher.log(f"stitch: {len(frames)} frames encoded, {video.stat().st_size / 1e6:.1f} MB")
    return (
        RenderedFile(
            kind="video",
            path=video,
            content_type="video/mp4",
            width=size.width,
            height=size.height,
        ),
        RenderedFile(
            kind="poster",
            path=poster,
            content_type="image/jpeg",
            width=size.width,
            height=size.height,
        ),
        RenderedFile(
            kind="spritesheet",
            path=spritesheet,
            content_type="image/jpeg",
            width=sheet_size.width,
            height=sheet_size.height,
        ),
    )
