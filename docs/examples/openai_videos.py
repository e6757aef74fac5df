"""Videos with the `openai` client: render, watch, fetch, list, remix, delete.

    export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=$(cat .promptreel/client.key)
    python docs/examples/openai_videos.py "a red circle moving left on a navy background"

Writes video.mp4, thumbnail.jpg and spritesheet.jpg into the working directory.
"""

import sys
import time

from openai import OpenAI
from openai.types import Video

FILES = {"video": "video.mp4", "thumbnail": "thumbnail.jpg", "spritesheet": "spritesheet.jpg"}
SECONDS_BETWEEN_LOOKS = 0.5


def main(prompt: str) -> None:
    client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY

    # What the client has no argument for goes into extra_body.
    video = client.videos.create(
        prompt=prompt, seconds="1", size="416x240", extra_body={"seed": 7, "quality": "balanced"}
    )
    print(f"{video.id} is {video.status}")
    video = wait_for(client, video)

    for variant, name in FILES.items():
        client.videos.download_content(video.id, variant=variant).write_to_file(name)
        print(f"saved {name}")

    # The same seed and settings, another prompt; create_and_poll and poll wait by themselves.
    remix = client.videos.remix(video.id, prompt=f"{prompt}, at night")
    remix = client.videos.poll(remix.id)
    print(f"{remix.id} is {remix.status}, a remix of {remix.remixed_from_video_id}")

    newest = [each.id for each in client.videos.list(limit=2).data]
    print(f"the newest are {', '.join(newest)}")

    for each in (remix, video):
        client.videos.delete(each.id)
        print(f"{each.id} is deleted")


def wait_for(client: OpenAI, video: Video) -> Video:
    """The completed video; a line whenever there is progress."""
    told = None
    while video.status in ("queued", "in_progress"):
        if (video.status, video.progress) != told:
            told = video.status, video.progress
            print(f"{video.status}, {video.progress} %")
        time.sleep(SECONDS_BETWEEN_LOOKS)
        video = client.videos.retrieve(video.id)
    if video.error is not None:
        sys.exit(f"{video.error.code}: {video.error.message}")
    return video


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "a red circle moving left on a navy background")
