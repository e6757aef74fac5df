"""What a provider says by itself: signed, once or often, in order or not, of ours or of nobody's."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from services.emulators.replicate import WEBHOOK_SECRET
from services.emulators.replicate_script import Succeeds
from tests.unit.generations_under_test import GENERATIONS, assert_refused, running_atelier

OTHER_SECRET = "whsec_bm90IHRoZSBrZXkgb2YgdGhlIGVtdWxhdG9yLCBhdCBhbGw="


@pytest.fixture
def atelier(tmp_path):
    """Whose provider has a picture ready, and tells of it, when the test says so."""
    with running_atelier(tmp_path, webhooks=False, seconds=None) as atelier:
        yield atelier


def tell(atelier, generation, *, event="completed", **said):
    move = (
        atelier.provider.predictions.start if event == "start" else atelier.provider.predictions.end
    )
    move(generation["predictionId"])
    said["event"] = event
    return atelier.provider.deliver(generation["predictionId"], **said)


def files_fetched(atelier):
    return [asked for asked in atelier.provider.asked if asked.call == "file"]


def test_twenty_at_once_make_one_set_of_variants(atelier):
    atelier.provider.script.next(Succeeds(pictures=2))
    generation = atelier.ordered()
    assert set(tell(atelier, generation, times=20, at_once=True)) == {200}
    seen = atelier.wait_for(generation, "succeeded")
    assert len(seen["variants"]) == 2
    assert len(atelier.stored("public")) == 4
    assert len(files_fetched(atelier)) == 2, "one brings them home"
    assert atelier.used() == 1


def test_one_that_comes_again_later_changes_nothing(atelier):
    generation = atelier.ordered()
    tell(atelier, generation)
    before = atelier.read(generation)
    assert tell(atelier, generation, times=3) == [200] * 3
    after = atelier.read(generation)
    assert after["finishedAt"] == before["finishedAt"]
    assert len(files_fetched(atelier)) == 1


def test_a_start_after_the_end_is_too_late(atelier):
    generation = atelier.ordered()
    tell(atelier, generation)
    assert tell(atelier, generation, event="start") == [200]
    assert atelier.read(generation)["status"] == "succeeded"


def test_one_for_a_canceled_picture_changes_nothing(tmp_path):
    with running_atelier(tmp_path, webhooks=False, seconds=None) as atelier:
        generation = atelier.ordered()
        succeeded = atelier.provider.predictions.read(generation["predictionId"]) | {
            "status": "succeeded",
            "output": f"{atelier.provider.url}/files/x/0.jpg",
        }
        atelier.client.patch(f"{GENERATIONS}/{generation['id']}", json={"action": "cancel"})
        assert tell(atelier, generation, payload=succeeded) == [200]
        assert atelier.read(generation)["status"] == "canceled"
        assert atelier.stored("public") == []


@pytest.mark.parametrize("job", ["?job=job_0", "", "?job=..%2F..", "?job=" + "x" * 3000])
def test_one_for_a_picture_nobody_knows_is_taken_and_forgotten(atelier, job):
    generation = atelier.ordered()
    url = f"{atelier.url}/api/v1/webhooks/replicate{job}"
    assert tell(atelier, generation, url=url) == [200]
    assert atelier.read(generation)["status"] != "succeeded"


def test_one_about_another_prediction_changes_nothing(atelier):
    ours, theirs = atelier.ordered(), atelier.ordered()
    url = f"{atelier.url}/api/v1/webhooks/replicate?job={ours['id']}"
    assert tell(atelier, theirs, url=url) == [200]
    assert atelier.read(ours)["status"] != "succeeded"


def test_one_for_a_video_changes_nothing(atelier):
    video = atelier.client.post("/v1/jobs", json={"prompt": "a boat"}).json()
    url = f"{atelier.url}/api/v1/webhooks/replicate?job={video['id']}"
    assert tell(atelier, atelier.ordered(), url=url) == [200]
    assert atelier.client.get(f"/v1/jobs/{video['id']}").json()["status"] == "queued"


@pytest.mark.parametrize(
    "said",
    [
        {"secret": OTHER_SECRET},
        {"late": timedelta(minutes=6)},
        {"late": -timedelta(minutes=6)},
        {"headers": {"webhook-signature": ""}},
        {"headers": {"webhook-signature": "v1,"}},
        {"headers": {"webhook-signature": "nonsense"}},
        {"headers": {"webhook-signature": "v1,AAAA v2,BBBB ,"}},
        {"headers": {"webhook-id": "another"}},
        {"headers": {"webhook-timestamp": "soon"}},
    ],
)
def test_a_forged_or_replayed_one_is_refused(atelier, said):
    generation = atelier.ordered()
    if "late" in said:
        said = {"signed_at": datetime.now(UTC) - said["late"]}
    assert tell(atelier, generation, **said) == [403]
    assert atelier.read(generation)["status"] != "succeeded"
    assert tell(atelier, generation) == [200]


def test_a_changed_one_is_refused(atelier):
    generation = atelier.ordered()
    prediction_id = generation["predictionId"]
    atelier.provider.predictions.end(prediction_id)
    honest = atelier.provider.webhooks.letter(
        "completed", atelier.provider.predictions.read(prediction_id)
    )
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(WEBHOOK_SECRET).sign("msg_1", now, honest.body.decode()),
    }
    for body in (honest.body + b" ", honest.body.replace(b"succeeded", b"processing"), b"\xff"):
        reply = httpx.post(honest.url, content=body, headers=headers)
        assert_refused(reply, 403, "VALIDATION_ERROR", "not signed as it must be")
    assert httpx.post(honest.url, content=honest.body, headers=headers).status_code == 200


def test_without_a_secret_all_are_refused(tmp_path):
    with running_atelier(
        tmp_path, webhooks=False, seconds=None, replicate={"webhook_secret_file": None}
    ) as atelier:
        assert tell(atelier, atelier.ordered()) == [403]


def test_a_secret_that_cannot_be_read_opens_nothing(tmp_path):
    with running_atelier(tmp_path, webhooks=False, seconds=None) as atelier:
        (tmp_path / "secret").write_text("whsec_")
        assert tell(atelier, atelier.ordered()) == [403]
        (tmp_path / "secret").unlink()
        assert tell(atelier, atelier.ordered()) == [403]


def test_unsigned_ones_are_taken_only_where_the_configuration_says_so(tmp_path):
    open_door = {"webhook_secret_file": None, "allow_unsigned_webhooks": True}
    with running_atelier(tmp_path, webhooks=False, seconds=None, replicate=open_door) as atelier:
        generation = atelier.ordered()
        with capture_logs() as lines:
            assert tell(atelier, generation, secret=OTHER_SECRET) == [200]
        assert atelier.read(generation)["status"] == "succeeded"
    assert any("unsigned webhook accepted" in line["event"] for line in lines)


def test_while_the_secret_is_replaced_both_are_good(atelier, tmp_path):
    both = f"{OTHER_SECRET}\n{(tmp_path / 'secret').read_text()}\n"
    (tmp_path / "secret").write_text(both)
    generation = atelier.ordered()
    assert tell(atelier, generation) == [200]
    assert tell(atelier, generation, secret=OTHER_SECRET) == [200]


@pytest.mark.parametrize("payload", [[], "x", {}, {"id": "../../x", "status": "succeeded"}, None])
def test_a_signed_one_that_tells_of_nothing_is_refused(atelier, payload):
    generation = atelier.ordered()
    said = {"id": generation["predictionId"], "status": 7} if payload is None else payload
    assert tell(atelier, generation, payload=said) == [400]


def test_one_that_is_too_long_is_refused(atelier):
    generation = atelier.ordered()
    assert tell(atelier, generation, payload={"logs": "x" * 2**20}) == [413]


def test_a_success_without_a_picture_is_a_failure(atelier):
    atelier.provider.script.next(Succeeds(output=[]))
    generation = atelier.ordered()
    assert tell(atelier, generation) == [200]
    seen = atelier.read(generation)
    assert (seen["status"], seen["error"]["code"]) == ("failed", "UPSTREAM_ERROR")


@pytest.mark.parametrize(
    "output",
    [
        "http://127.0.0.1:1/x.jpg",
        "http://10.0.0.1/x.jpg",
        "https://169.254.169.254/latest/meta-data",
        "https://example.com/x.jpg",
        "file:///etc/passwd",
        "nonsense",
    ],
)
def test_an_output_from_where_nothing_may_come_is_refused(atelier, output):
    atelier.provider.script.next(Succeeds(output=output))
    generation = atelier.ordered()
    assert tell(atelier, generation) == [200]
    seen = atelier.read(generation)
    assert (seen["status"], seen["error"]["code"]) == ("failed", "UPSTREAM_ERROR")
    assert output not in seen["error"]["message"]
    assert atelier.stored("public") == []


def test_an_output_that_is_no_picture_is_refused(atelier):
    atelier.provider.script.send(b"<html>not a picture</html>", Content_Type="image/jpeg")
    generation = atelier.ordered()
    assert tell(atelier, generation) == [200]
    assert atelier.read(generation)["status"] == "failed"


def test_an_output_that_sends_elsewhere_is_refused(atelier):
    atelier.provider.script.redirect("file", "http://127.0.0.1:1/x.jpg")
    generation = atelier.ordered()
    tell(atelier, generation)
    assert atelier.read(generation)["status"] == "failed"


def test_a_picture_that_cannot_be_fetched_yet_is_fetched_when_it_is_told_again(atelier):
    # Each time it is told, it is fetched four times.
    atelier.provider.script.fail("file", 503, count=4)
    generation = atelier.ordered()
    assert tell(atelier, generation) == [502]
    assert atelier.read(generation)["status"] == "processing"
    assert tell(atelier, generation) == [200]
    assert atelier.read(generation)["status"] == "succeeded"


def test_a_webhook_needs_no_key_and_takes_nothing_but_posts(atelier):
    path = f"{atelier.url}/api/v1/webhooks/replicate"
    assert_refused(httpx.post(path, json={}), 403, "VALIDATION_ERROR")
    assert httpx.get(path).status_code == 405
