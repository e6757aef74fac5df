"""What is pushed, in every form in which it may come."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.gcp.push_envelope import Pushed, parse_push
from shared.errors import UnreadableMessage
from shared.messages import Message, encode

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
SUBSCRIPTION = "projects/demo/subscriptions/render-gpu-push"
PLAIN = {"Content-Type": "application/json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
TYPE = "google.cloud.pubsub.topic.v1.messagePublished"
BINARY = {
    **PLAIN,
    "ce-id": "17",
    "ce-source": "//pubsub.googleapis.com/projects/demo/topics/render-gpu",
    "ce-specversion": "1.0",
    "ce-type": TYPE,
}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def envelope(**message):
    plain = {"data": base64_of(encode(Message(job_id="job_1"))), "messageId": "17"}
    return {"message": {**plain, **message}, "subscription": SUBSCRIPTION, "deliveryAttempt": 3}


def event(**fields):
    plain = {"specversion": "1.0", "id": "17", "source": "//pubsub", "type": TYPE}
    return {**plain, **fields}


def parse(content, headers=PLAIN) -> Pushed:
    return parse_push(headers, json.dumps(content).encode())


PUSHED = Pushed(
    message=Message(job_id="job_1"),
    message_id="17",
    subscription=SUBSCRIPTION,
    delivery_attempt=3,
)


def test_a_push_of_pubsubs_is_read():
    assert parse(envelope()) == PUSHED


def test_a_binary_cloud_event_is_read():
    assert parse(envelope(), BINARY) == PUSHED


def test_a_structured_cloud_event_is_read():
    assert parse(event(data=envelope()), STRUCTURED) == PUSHED


def test_a_structured_cloud_event_with_its_data_in_base64_is_read():
    data = base64_of(json.dumps(envelope()).encode())
    assert parse(event(data_base64=data), STRUCTURED) == PUSHED


def test_the_names_of_headers_have_no_case():
    headers = {name.upper(): value for name, value in BINARY.items()}
    assert parse(envelope(), headers) == PUSHED
    headers = {"content-type": "Application/CloudEvents+JSON"}
    assert parse(event(data=envelope()), headers) == PUSHED


@pytest.mark.parametrize("data", [{}, {"data": ""}, {"data": None}])
def test_a_message_in_the_attributes_alone_is_read(data):
    message = {"messageId": "1", "attributes": {"job_id": "job_1", "traceparent": TRACE}, **data}
    for headers in (PLAIN, BINARY):
        pushed = parse({"message": message}, headers)
        assert pushed.message == Message(job_id="job_1", traceparent=TRACE)


def test_what_may_be_left_out_may_be_left_out():
    pushed = parse({"message": {"message_id": "1", "data": envelope()["message"]["data"]}})
    assert pushed == Pushed(
        message=Message(job_id="job_1"), message_id="1", subscription=None, delivery_attempt=None
    )


def test_the_datas_trace_wins_over_the_attributes():
    other = TRACE.replace("a", "c")
    data = base64_of(encode(Message(job_id="job_1", traceparent=TRACE)))
    pushed = parse(envelope(data=data, attributes={"traceparent": other}))
    assert pushed.message.traceparent == TRACE
    pushed = parse(envelope(attributes={"googclient_traceparent": other}))
    assert pushed.message.traceparent == other


@pytest.mark.parametrize(
    ("headers", "content", "reason"),
    [
        (PLAIN, [], "the push's body is not a JSON object"),
        (PLAIN, {}, "the push has no message"),
        (PLAIN, {"message": []}, "the push's message has the wrong type"),
        (PLAIN, {"message": {"data": ""}}, "the push's message has no messageId"),
        (PLAIN, envelope(messageId=17), "the push's messageId has the wrong type"),
        (PLAIN, envelope(data="%%%"), "the push's data is not base64"),
        (PLAIN, envelope(data="ä"), "the push's data is not base64"),
        (PLAIN, envelope(data=7), "the push's data is not text"),
        (PLAIN, envelope(data=base64_of(b"\xff")), "the message is not JSON"),
        (PLAIN, envelope(data=base64_of(b"{}")), "the message names no job_id"),
        (PLAIN, envelope(data=""), "the message names no job_id"),
        (PLAIN, envelope(attributes=[]), "the push's attributes has the wrong type"),
        (
            PLAIN,
            envelope(attributes={"job_id": 7}),
            "an attribute of the push's message is not text",
        ),
        (
            PLAIN,
            {**envelope(), "deliveryAttempt": True},
            "the push's deliveryAttempt has the wrong type",
        ),
        (PLAIN, {**envelope(), "subscription": 7}, "the push's subscription has the wrong type"),
        (
            {**BINARY, "ce-type": "google.cloud.storage.object.v1.finalized"},
            envelope(),
            "the event is not a published Pub/Sub message",
        ),
        (
            STRUCTURED,
            event(type="other", data=envelope()),
            "the event is not a published Pub/Sub message",
        ),
        (STRUCTURED, event(), "the event has no data"),
        (STRUCTURED, event(data="text"), "the push's data has the wrong type"),
        (STRUCTURED, event(data_base64=base64_of(b"[]")), "the event's data is not a JSON object"),
    ],
)
def test_what_is_malformed_is_unreadable_and_says_why(headers, content, reason):
    with pytest.raises(UnreadableMessage) as caught:
        parse(content, headers)
    assert caught.value.message == reason


@pytest.mark.parametrize("body", [b"", b"job_1", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_unreadable(body):
    for headers in (PLAIN, BINARY, STRUCTURED):
        with pytest.raises(UnreadableMessage, match="not JSON"):
            parse_push(headers, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.sampled_from([PLAIN, BINARY, STRUCTURED]),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.just(TYPE),
            "message": JSON
            | st.fixed_dictionaries(
                {}, optional={"data": JSON, "attributes": JSON, "messageId": JSON}
            ),
            "data": JSON,
            "data_base64": JSON,
            "subscription": JSON,
        },
    ),
)
def test_whatever_is_pushed_is_a_message_or_unreadable(headers, content):
    try:
        pushed = parse(content, headers)
    except UnreadableMessage:
        return
    assert pushed.message.job_id
