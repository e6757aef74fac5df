"""What somebody else has put into a bucket of our Cloud Storage, without any client."""

from services.emulators.gcs import GcsServer
from services.emulators.gcs_objects import Attributes, Hashes, Preconditions


def put_clip(server: GcsServer, uri: str, content: bytes) -> None:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    file = server.objects.new_content()
    file.write_bytes(content)
    server.objects.insert(
        bucket,
        name,
        file,
        attributes=Attributes(content_type="video/mp4"),
        declared=Hashes(),
        preconditions=Preconditions(),
    )
