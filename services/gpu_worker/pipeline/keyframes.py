"""Stage 2, keyframes: the images that hold a clip's segments together."""

from services.gpu_worker.pipeline.watcher import Watcher


def make_keyframes(watcher: Watcher) -> None:
    """Make none: a plan has one segment, and text to video starts from the prompt alone."""
    watcher.log("keyframes: none needed, text to video starts from the prompt alone")
