"""What travels in a queue message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UnreadableMessage
from shared.lifecycle import new_job_id
from shared.messages import Message, decode, encode


@given(st.none() | st.text())
def test_a_message_arrives_as_it_was_sent(traceparent):
    message = Message(job_id=new_job_id(), traceparent=traceparent)
    assert decode(encode(message)) == message


def test_a_message_carries_a_job_id_and_a_trace_and_nothing_else():
    assert json.loads(encode(Message(job_id="job_1"))) == {"job_id": "job_1"}
    traced = json.loads(encode(Message(job_id="job_1", traceparent="00-x")))
    assert traced == {"job_id": "job_1", "traceparent": "00-x"}


def test_fields_of_a_newer_version_are_ignored():
    assert decode(b'{"job_id": "job_1", "mood": "sunny"}') == Message(job_id="job_1")


def test_a_trace_that_is_no_text_is_left_out():
    assert decode(b'{"job_id": "job_1", "traceparent": 7}') == Message(job_id="job_1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"job_1",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"job_id": 7}',
        b'{"job_id": ""}',
        b'{"job_id": "a/b"}',
        b'{"job_id": "job_1\\n"}',
        b'{"job_id": "\\ud800"}',
        b'{"job_id": "' + b"a" * 129 + b'"}',
        b"[" * 100_000,
        b"1" * 100_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_names_no_job_is_unreadable(data):
    with pytest.raises(UnreadableMessage):
        decode(data)


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr))
def test_whatever_arrives_is_a_message_or_unreadable(data):
    try:
        message = decode(data if isinstance(data, bytes) else data.encode(errors="replace"))
    except UnreadableMessage:
        return
    assert message.job_id
