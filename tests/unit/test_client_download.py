"""A file that is fetched whole, however often it breaks off on the way."""

import fcntl
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from services.emulators.serving import serving
from shared.client.errors import BrokenDownload, ClientError, NotThere
from tests.unit.api_under_test import VIDEO, running_api
from tests.unit.client_under_test import Reply, client_of, scripted

LINK = "/v1/jobs/job_1/artifact"
FILE = "/bucket/clip.mp4"


@dataclass
class Cutting:
    """The real API behind a connection that breaks: after so many bytes of a file."""

    app: object
    cuts: list[int]
    asked: list[tuple] = field(default_factory=list)
    keys: list = field(default_factory=list)

    def __call__(self, environ, start_response):
        with closing(self.app(environ, start_response)) as reply:
            content = b"".join(reply)
        if environ["PATH_INFO"].startswith("/outputs/"):
            self.asked.append((environ.get("HTTP_RANGE"), len(content)))
            self.keys.append(environ.get("HTTP_AUTHORIZATION"))
            if self.cuts:
                content = content[: self.cuts.pop(0)]
        return [content]


@pytest.fixture(params=["blocking", "awaiting"])
def kind(request):
    return request.param


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out" / "clip.mp4"


def files(target):
    return sorted(file.name for file in target.parent.iterdir()) if target.parent.exists() else []


def fetch(kind, url, key, job_id, target, **options):
    with client_of(kind, url, key, **options) as (client, _):
        seen = []
        client.download(job_id, target, on_bytes=lambda *bytes_: seen.append(bytes_))
        return seen


def test_a_file_is_fetched_whole_and_nothing_else_stays(kind, api, target):
    job_id = api.finished()
    proxy = Cutting(api.app, [])
    with serving(proxy) as url:
        seen = fetch(kind, url, api.key, job_id, target)
    assert target.read_bytes() == VIDEO
    assert files(target) == ["clip.mp4"]
    assert seen[-1] == (len(VIDEO), len(VIDEO))
    assert proxy.keys == [None]


def test_a_download_that_breaks_goes_on_by_itself(kind, api, target):
    proxy = Cutting(api.app, [3000, 1000])
    with serving(proxy) as url:
        fetch(kind, url, api.key, api.finished(), target)
    assert target.read_bytes() == VIDEO
    whole = len(VIDEO)
    assert proxy.asked == [
        (None, whole),
        ("bytes=3000-", whole - 3000),
        ("bytes=4000-", whole - 4000),
    ]


def test_a_later_try_goes_on_where_an_earlier_one_stopped(kind, api, target):
    job_id = api.finished()
    proxy = Cutting(api.app, [3000])
    with serving(proxy) as url:
        with pytest.raises(ClientError):
            fetch(kind, url, api.key, job_id, target, tries=1)
        assert files(target) == ["clip.mp4.partial", "clip.mp4.partial.json"]
        fetch(kind, url, api.key, job_id, target)
    assert target.read_bytes() == VIDEO
    assert files(target) == ["clip.mp4"]
    assert proxy.asked[1] == ("bytes=3000-", len(VIDEO) - 3000)


def test_a_file_that_has_changed_between_two_tries_starts_over(kind, api, target):
    job_id = api.finished()
    proxy = Cutting(api.app, [3000])
    with serving(proxy) as url:
        with pytest.raises(ClientError):
            fetch(kind, url, api.key, job_id, target, tries=1)
        [stored] = api.wiring.config.data_dir.rglob("final_video.mp4")
        stored.write_bytes(changed := VIDEO[::-1] + b"more")
        fetch(kind, url, api.key, job_id, target)
    assert target.read_bytes() == changed
    assert proxy.asked[1] == ("bytes=3000-", len(changed))


def test_what_came_of_another_job_is_not_gone_on_with(kind, api, target):
    proxy = Cutting(api.app, [3000])
    with serving(proxy) as url:
        with pytest.raises(ClientError):
            fetch(kind, url, api.key, api.finished(), target, tries=1)
        fetch(kind, url, api.key, api.finished(), target)
    assert target.read_bytes() == VIDEO
    assert proxy.asked[1] == (None, len(VIDEO))


def test_no_file_leaves_nothing_behind(kind, api, target):
    with serving(api.app) as url, pytest.raises(NotThere) as told:
        fetch(kind, url, api.key, api.submit(), target)
    assert told.value.code == "artifact_not_ready"
    assert files(target) == []


def test_a_download_that_breaks_before_its_first_byte_leaves_nothing(kind, api, target):
    job_id = api.finished()
    with serving(Cutting(api.app, [0])) as url, pytest.raises(ClientError):
        fetch(kind, url, api.key, job_id, target, tries=1)
    assert files(target) == []


def test_all_bytes_of_a_file_that_lacks_only_its_name(kind, api, target):
    """Whoever dies between the last byte and the rename."""
    job_id = api.finished()
    proxy = Cutting(api.app, [3000])
    with serving(proxy) as url:
        with pytest.raises(ClientError):
            fetch(kind, url, api.key, job_id, target, tries=1)
        target.with_name("clip.mp4.partial").write_bytes(VIDEO)
        fetch(kind, url, api.key, job_id, target)
    assert target.read_bytes() == VIDEO


def test_two_downloads_do_not_write_to_one_file(kind, api, target):
    job_id = api.finished()
    target.parent.mkdir()
    proxy = Cutting(api.app, [])
    with serving(proxy) as url, target.with_name("clip.mp4.partial").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BrokenDownload, match="Another download"):
            fetch(kind, url, api.key, job_id, target)
    assert not target.exists()


def of_a_bucket(*replies):
    return {LINK: [Reply()], FILE: list(replies)}


def test_a_bucket_that_ignores_ranges_or_has_no_etag_starts_over(kind, target):
    scripts = of_a_bucket(Reply(VIDEO, cut_after=100), Reply(VIDEO))
    with scripted(scripts) as server:
        link = {"gcs_uri": "gs://x", "url": server.url + FILE + "?signature=abc", "expires_in": 9}
        server.scripts[LINK] = [Reply(link)]
        fetch(kind, server.url, "key", "job_1", target)
        ranges = [asked.get("HTTP_RANGE") for asked in server.asked if asked["PATH_INFO"] == FILE]
    assert target.read_bytes() == VIDEO
    assert ranges == [None, None]


def test_another_part_than_was_asked_for_is_not_put_together(kind, target):
    # As many bytes as are missing, so that the length would tell nothing.
    part = Reply(VIDEO[50:-50], 206, {"Content-Range": f"bytes 50-{len(VIDEO) - 51}/{len(VIDEO)}"})
    begun = Reply(VIDEO, headers={"ETag": '"1"'}, cut_after=100)
    with scripted(of_a_bucket(begun, part, Reply(VIDEO))) as server:
        link = {"gcs_uri": "gs://x", "url": server.url + FILE, "expires_in": 9}
        server.scripts[LINK] = [Reply(link)]
        fetch(kind, server.url, "key", "job_1", target)
    assert target.read_bytes() == VIDEO


def test_a_part_that_ends_before_the_file_is_not_the_whole(kind, target):
    """Some servers give so many bytes at once and no more, and say so."""
    whole = len(VIDEO)
    begun = Reply(VIDEO, headers={"ETag": '"1"'}, cut_after=100)
    some = Reply(VIDEO[100:4000], 206, {"Content-Range": f"bytes 100-3999/{whole}"})
    rest = Reply(VIDEO[4000:], 206, {"Content-Range": f"bytes 4000-{whole - 1}/{whole}"})
    with scripted(of_a_bucket(begun, some, rest)) as server:
        link = {"gcs_uri": "gs://x", "url": server.url + FILE, "expires_in": 9}
        server.scripts[LINK] = [Reply(link)]
        fetch(kind, server.url, "key", "job_1", target)
    assert target.read_bytes() == VIDEO


def test_a_link_is_in_no_error(kind, target):
    with scripted(of_a_bucket(Reply(b"<Error/>", 403))) as server:
        link = {"gcs_uri": "gs://x", "url": server.url + FILE + "?signature=abc", "expires_in": 9}
        server.scripts[LINK] = [Reply(link)]
        with pytest.raises(ClientError) as told:
            fetch(kind, server.url, "key", "job_1", target)
    assert "abc" not in str(told.value)
