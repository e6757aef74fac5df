import re
from datetime import timedelta

import pytest

from shared.adapters.local.signing_keys import rotate
from shared.wiring import signing_file
from tests.unit.api_under_test import VIDEO, assert_error, running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def job_id(api):
    return api.finished()


@pytest.fixture
def link(api, job_id):
    return api.link(job_id)


@pytest.fixture
def fetch(api):
    """Asks without a key, and reads the reply to its end."""

    def ask(url, *, method="GET", **headers):
        reply = api.anonymous.open(
            url,
            method=method,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        reply.get_data()
        reply.close()
        return reply

    return ask


def test_a_signed_link_serves_the_video_without_a_key(fetch, link):
    reply = fetch(link)
    assert reply.status_code == 200
    assert reply.data == VIDEO
    assert reply.content_type == "video/mp4"
    assert reply.headers["Content-Length"] == str(len(VIDEO))
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Cache-Control"] == "private"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Disposition"].startswith("inline")


def test_whatever_becomes_of_a_fetch_it_is_over(fetch, link):
    """Only so many may be on their way at once; one that is refused is on its way no longer."""
    for _ in range(20):
        assert fetch(link, Range="bytes=999999-").status_code == 416
        assert fetch(link, method="HEAD").status_code == 200
        assert fetch(link, Range="bytes=0-9").status_code == 206
    assert fetch(link).status_code == 200


def test_head_tells_of_the_video_and_sends_none(fetch, link):
    reply = fetch(link, method="HEAD")
    assert reply.status_code == 200
    assert reply.headers["Content-Length"] == str(len(VIDEO))
    assert reply.data == b""


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("bytes=4-11", VIDEO[4:12]),
        ("bytes=0-0", VIDEO[:1]),
        ("bytes=100-", VIDEO[100:]),
        ("bytes=-5", VIDEO[-5:]),
    ],
)
def test_a_part_of_the_video_can_be_asked_for(fetch, link, asked, got):
    reply = fetch(link, Range=asked)
    assert reply.status_code == 206
    assert reply.data == got
    start = VIDEO.find(got)
    end = start + len(got) - 1
    assert reply.headers["Content-Range"] == f"bytes {start}-{end}/{len(VIDEO)}"


def test_a_part_beyond_the_end_is_416_with_the_size(fetch, link):
    reply = fetch(link, Range=f"bytes={len(VIDEO)}-")
    assert_error(reply, 416, "range_not_satisfiable", "Content-Range")
    assert reply.headers["Content-Range"] == f"bytes */{len(VIDEO)}"


def test_a_copy_that_is_still_good_is_not_sent_again(fetch, link):
    etag = fetch(link).headers["ETag"]
    assert fetch(link, If_None_Match=etag).status_code == 304
    assert fetch(link, If_None_Match='"another"').status_code == 200
    assert fetch(link, Range="bytes=0-1", If_Range='"another"').status_code == 200


def test_a_poster_is_served_as_what_it_is(api, fetch, job_id):
    poster = api.wiring.store.get(job_id).artifact("poster")
    url = api.wiring.artifacts.link(poster.key, expires_in_seconds=60, now=api.clock.now).url
    assert fetch(url).content_type == "image/jpeg"


def changed(link, what):
    path, _, query = link.partition("?")
    named, _, signature = query.partition("&signature=")
    expires, _, key_id = named.partition("&key_id=")
    moment = int(expires.removeprefix("expires="))
    return {
        "another secret": f"{path}?expires={moment}&key_id=0{key_id[1:]}1&signature={signature}",
        "signature": f"{path}?expires={moment}&signature={'0' * 64}",
        "no signature": f"{path}?expires={moment}",
        "empty signature": f"{path}?expires={moment}&signature=",
        "odd signature": f"{path}?expires={moment}&signature=%ff%00ä",
        "later": f"{path}?expires={moment + 1}&signature={signature}",
        "no time": f"{path}?signature={signature}",
        "no number": f"{path}?expires=never&signature={signature}",
        "far away": f"{path}?expires={'9' * 30}&signature={signature}",
        "another file": f"{path.replace('final_video', 'poster')}?{query}",
        "outside": f"/outputs/videos/..%2f..%2fsigning.key?{query}",
        "a job's id": f"/outputs/{path.split('/')[-2]}?{query}",
    }[what]


@pytest.mark.parametrize(
    "what",
    [
        "signature",
        "no signature",
        "empty signature",
        "odd signature",
        "later",
        "no time",
        "no number",
        "far away",
        "another file",
        "outside",
        "a job's id",
        "another secret",
    ],
)
def test_a_changed_link_is_403(fetch, link, what):
    assert_error(fetch(changed(link, what)), 403, "link_tampered", "Ask the job for a new link")


def test_another_installations_link_is_403(fetch, link, tmp_path):
    (tmp_path / "other").mkdir()
    with running_api(tmp_path / "other") as other:
        assert_error(other.anonymous.get(link), 403, "link_tampered")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_link_is_for_fetching_only(fetch, link, method):
    assert fetch(link, method=method).status_code == 405


def test_a_link_of_an_earlier_version_works_until_it_expires(api, fetch, link):
    path, _, query = link.partition("?")
    expires, _, signed = query.partition("&")
    earlier = f"{path}?{expires}&{signed.partition('&')[2]}"
    assert "key_id" not in earlier
    assert fetch(earlier).data == VIDEO
    api.clock.advance(3600)
    assert_error(fetch(earlier), 410, "artifact_expired")


def rotate_secret(api, **overlap):
    rotate(
        signing_file(api.wiring.config),
        now=api.clock.now,
        overlap=timedelta(**(overlap or {"hours": 12})),
    )


def test_links_outlive_the_secret_they_are_signed_with_and_nothing_is_restarted(
    api, fetch, link, job_id
):
    rotate_secret(api)
    new = api.link(job_id)
    key_ids = {re.search("key_id=([0-9a-f]{8})&", url)[1] for url in (link, new)}
    assert len(key_ids) == 2
    assert fetch(link).data == fetch(new).data == VIDEO
    rotate_secret(api)
    assert fetch(link).data == fetch(new).data == fetch(api.link(job_id)).data == VIDEO


def test_a_secret_that_has_leaked_is_replaced_at_once(api, fetch, link, job_id):
    rotate_secret(api, seconds=0)
    assert_error(fetch(link), 403, "link_tampered")
    assert fetch(api.link(job_id)).data == VIDEO


def test_an_old_secret_signs_nothing_beyond_its_time(api, fetch, job_id):
    link = api.link(job_id, expires_in=7200)
    rotate_secret(api, hours=1)
    api.clock.advance(3599)
    assert fetch(link).status_code == 200
    api.clock.advance(1)
    assert_error(fetch(link), 403, "link_tampered")


def test_an_expired_link_is_410(api, fetch, job_id):
    link = api.link(job_id, expires_in=60)
    api.clock.advance(59)
    assert fetch(link).status_code == 200
    api.clock.advance(1)
    assert_error(fetch(link), 410, "artifact_expired", "Ask the job for a new one")


def test_a_changed_link_that_has_expired_too_is_403(api, fetch, link):
    api.clock.advance(7200)
    assert fetch(changed(link, "signature")).status_code == 403


def test_a_link_to_a_file_past_its_retention_is_410(api, fetch, link, job_id):
    for artifact in api.wiring.store.get(job_id).artifacts:
        api.wiring.artifacts.delete(artifact.key)
    assert_error(fetch(link), 410, "artifact_expired", "Submit the job again")


def test_a_key_does_not_mend_a_link(api, link):
    assert api.client.get(changed(link, "signature")).status_code == 403


def test_the_owner_is_led_from_a_job_to_its_video(api, fetch, job_id):
    reply = api.client.get(f"/outputs/{job_id}")
    assert reply.status_code == 302
    assert fetch(reply.headers["Location"]).data == VIDEO


def test_without_a_signature_a_key_is_needed(api, job_id, link):
    assert_error(api.anonymous.get(f"/outputs/{job_id}"), 401, "unauthenticated")
    assert_error(api.anonymous.get(link.partition("?")[0]), 401, "unauthenticated")


def test_another_owner_is_led_nowhere(api, job_id, link):
    assert_error(api.stranger.get(f"/outputs/{job_id}"), 404, "job_not_found")
    assert_error(api.stranger.get(link.partition("?")[0]), 404, "job_not_found")


def test_a_job_without_a_video_leads_nowhere_yet(api):
    assert_error(api.client.get(f"/outputs/{api.submit()}"), 404, "artifact_not_ready", "Poll")


def test_at_the_end_of_its_retention_a_file_is_410_before_any_sweep(api, fetch, job_id):
    api.clock.advance(7 * 24 * 3600 - 60)
    link = api.client.get(f"/outputs/{job_id}").headers["Location"]
    assert fetch(link).status_code == 200
    api.clock.advance(60)
    assert_error(fetch(link), 410, "artifact_expired")
    assert_error(api.client.get(f"/outputs/{job_id}"), 410, "artifact_expired", "Submit the job")


def test_a_job_past_its_retention_leads_nowhere_any_more(api, job_id):
    api.clock.advance(8 * 24 * 3600)
    api.wiring.lifecycle.sweep()
    assert_error(api.client.get(f"/outputs/{job_id}"), 410, "artifact_expired")
