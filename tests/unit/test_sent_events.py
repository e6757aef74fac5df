import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.client.sent_events import EventReader, LineReader, SentEvent, Unfinished, take_line


def read(content, *cuts):
    """All events, with the bytes in pieces."""
    reader = EventReader()
    edges = [0, *sorted(cuts), len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(edges)]
    return [event for piece in pieces for event in reader.take(piece)]


def test_an_event_is_its_lines_up_to_an_empty_one():
    events = read(b'event: job\nid: 7\ndata: {"a": 1}\n\n')
    assert events == [SentEvent("job", '{"a": 1}', "7")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_three_ways(end):
    content = end.join([b"event: log", b"data: one", b"data: two", b"", b"data: x", b"", b""])
    assert read(content) == [SentEvent("log", "one\ntwo", ""), SentEvent("message", "x", "")]


def test_other_separators_are_part_of_a_line():
    assert read("data: a\u2028b\x0bc\x85d\n\n".encode())[0].data == "a\u2028b\x0bc\x85d"


def test_the_examples_of_the_specification():
    assert read(b"data: YHOO\ndata: +2\ndata: 10\n\n")[0].data == "YHOO\n+2\n10"
    first, second, third = read(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    )
    assert (first.data, first.id) == ("first event", "1")
    assert (second.data, second.id) == ("second event", "")
    assert (third.data, third.id) == (" third event", "")
    assert [event.data for event in read(b"data\n\ndata\ndata\n\ndata:")] == ["", "\n"]
    assert [event.data for event in read(b"data:test\n\ndata: test\n\n")] == ["test", "test"]


def test_an_id_stays_until_another_comes_even_with_no_event():
    events = read(b"id: 3\n\ndata: a\n\ndata: b\nid: 4\0\n\ndata: c\nid: 5\n\n")
    assert [event.id for event in events] == ["3", "3", "5"]


def test_an_event_without_data_is_none_and_its_name_is_forgotten():
    assert read(b"event: job\n\ndata: x\n\n") == [SentEvent("message", "x", "")]


def test_comments_and_unknown_fields_are_nothing():
    assert read(b": alive\ncolour: red\ndata: x\n: alive\n\n") == [SentEvent("message", "x", "")]


@pytest.mark.parametrize(
    ("line", "seconds"), [("retry: 1500", 1.5), ("retry: 1.5", None), ("retry: ٣", None)]
)
def test_only_digits_say_when_to_come_again(line, seconds):
    assert take_line(Unfinished(), line)[0].retry_seconds == seconds


def test_an_event_that_broke_off_is_none():
    assert read(b"data: x\n") == []
    assert read(b"data: x\n\ndata: y") == [SentEvent("message", "x", "")]


def test_a_byte_order_mark_is_dropped_once():
    assert read(b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n") == [
        SentEvent("message", "x", "")
    ]


def test_bytes_that_are_no_text_do_no_harm():
    assert read(b"data: \xff\n\n")[0].data == "\ufffd"


WHOLE = "\ufeffid: 1\r\nevent: log\rdata: Grüße ✓\n: alive\r\n\r\ndata: a\rdata: b\r\n\rretry: 9\n\n".encode()


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_it_does_not_matter_where_the_pieces_end(cuts):
    assert read(WHOLE, *cuts) == read(WHOLE)
    assert read(WHOLE, *range(len(WHOLE))) == read(WHOLE)
    assert len(read(WHOLE)) == 2


def test_a_line_is_there_as_soon_as_its_carriage_return():
    reader = LineReader()
    assert reader.take(b"data: x\r") == ["data: x"]
    assert reader.take(b"") == []
    assert reader.take(b"\n\r") == [""]
