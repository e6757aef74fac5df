from services.api.event_source import ALIVE, event


def test_an_event_has_its_name_its_id_and_its_data_and_ends_with_an_empty_line():
    assert event("log", "one", number=7) == b"event: log\nid: 7\ndata: one\n\n"


def test_whatever_breaks_a_line_makes_another_line_of_data():
    written = event("log", "a\nb\r\nc\rd\n\ne", number=0)
    assert written.decode().splitlines()[2:] == [
        "data: a",
        "data: b",
        "data: c",
        "data: d",
        "data: ",
        "data: e",
        "",
    ]
    assert written.endswith(b"data: e\n\n")


def test_what_breaks_no_line_of_a_stream_stays_in_it():
    text = "a\u2028b\u0085c\x0bd: e"
    assert event("log", text, number=0) == f"event: log\nid: 0\ndata: {text}\n\n".encode()


def test_no_data_is_an_empty_line_of_data():
    assert event("end", "", number=3) == b"event: end\nid: 3\ndata: \n\n"


def test_a_sign_of_life_is_a_comment():
    assert ALIVE == b": alive\n\n"
