"""What is refused before anybody is asked: each leaves no job, no debit and no file."""

import json

import pytest

from services.api.limits import StrictJson
from tests.unit.generations_under_test import (
    GENERATIONS,
    PROMPT,
    assert_refused,
    picture,
    running_atelier,
)

PNG = ("mine.png", picture())


@pytest.fixture
def atelier(tmp_path):
    with running_atelier(tmp_path, images={"blocked_words": ["gun", "red flag"]}) as atelier:
        yield atelier
        assert atelier.jobs() == 0
        assert atelier.used() == 0
        assert atelier.stored("private") == []
        assert atelier.orders() == []


def post(atelier, fields, files=None):
    # httpx sends multipart/form-data only if there is a file; a part without a file name is a field.
    parts = [(name, (None, value)) for name, value in fields.items()]
    return atelier.client.post(GENERATIONS, files=[*parts, *(files or {}).items()])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "`prompt` is missing"),
        ({"prompt": ""}, "empty"),
        ({"prompt": " \n"}, "empty"),
        ({"prompt": "x" * 2001}, "shorten it to 2000"),
        ({"prompt": 7}, "string"),
        ({"prompt": PROMPT, "mode": "paint"}, "mode"),
        ({"prompt": PROMPT, "aspectRatio": "17:9"}, "one of 1:1"),
        ({"prompt": PROMPT, "aspect_ratio": "16:9"}, "not a field"),
        ({"prompt": PROMPT, "model": "acme/painter"}, "Your plan has google/nano-banana"),
        ({"prompt": PROMPT, "seed": 1}, "`seed` is not a field"),
        ({"prompt": PROMPT, "input1": "data:image/png;base64,AAAA"}, "`input1` is not a field"),
        ({"prompt": PROMPT, "mode": "edit"}, "send input1 as a file"),
        ({"prompt": PROMPT, "mode": "combine"}, "send input1 as a file"),
    ],
)
def test_a_body_that_cannot_be_is_refused_and_says_what_to_do(atelier, fields, word):
    assert_refused(atelier.client.post(GENERATIONS, json=fields), 400, "VALIDATION_ERROR", word)


@pytest.mark.parametrize(
    ("fields", "files", "word"),
    [
        ({"prompt": PROMPT}, {"input2": PNG}, "send input1"),
        ({"prompt": PROMPT, "mode": "combine"}, {"input1": PNG}, "send input2"),
        ({"prompt": PROMPT, "mode": "edit"}, {"input1": PNG, "input2": PNG}, "leave out input2"),
        ({"prompt": PROMPT, "mode": "generate"}, {"input1": PNG}, "leave out input1"),
        ({"prompt": PROMPT}, {"input3": PNG}, "`input3` is not a file"),
        ({"prompt": PROMPT, "input1": "text"}, {}, "`input1`: must be a file"),
        ({"prompt": PROMPT, "seed": "1"}, {"input1": PNG}, "`seed` is not a field"),
        ({"prompt": PROMPT}, {"input1": ("mine.png", b"")}, "file is empty"),
        (
            {"prompt": PROMPT},
            {"input1": ("mine.png", b"GIF89a" + bytes(99))},
            "no JPEG, no PNG and no WebP",
        ),
        ({"prompt": PROMPT}, {"input1": ("mine.png", picture()[:-40])}, "damaged"),
        ({}, {"input1": PNG}, "`prompt` is missing"),
    ],
)
def test_a_form_that_cannot_be_is_refused_and_says_what_to_do(atelier, fields, files, word):
    assert_refused(post(atelier, fields, files), 400, "VALIDATION_ERROR", word)


@pytest.mark.parametrize("disposition", ["form-data", "form-data; filename=a.png"])
def test_a_part_without_a_name_is_refused(atelier, disposition):
    part = f"--x\r\nContent-Disposition: {disposition}\r\n\r\na cat\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for count in (1, 2):
        body = f"{part * count}--x--\r\n"
        reply = atelier.client.post(GENERATIONS, content=body, headers=headers)
        assert_refused(reply, 400, "VALIDATION_ERROR", "has no name")


def test_a_part_that_is_sent_twice_is_refused(atelier):
    twice = [("prompt", (None, PROMPT)), ("input1", PNG), ("input1", PNG)]
    reply = atelier.client.post(GENERATIONS, files=twice)
    assert_refused(reply, 400, "VALIDATION_ERROR", "`input1` is given twice")


def test_more_parts_than_anybody_needs_are_refused(atelier):
    many = [(f"field{number}", (None, "x")) for number in range(50)]
    assert_refused(atelier.client.post(GENERATIONS, files=many), 413, "VALIDATION_ERROR")


@pytest.mark.parametrize("prompt", ["a GUN on a table", "a  red\tflag", "ａ ｇｕｎ"])
def test_blocked_words_are_refused_however_they_are_written(atelier, prompt):
    reply = atelier.order(prompt=prompt)
    assert_refused(reply, 422, "VALIDATION_ERROR", "does not allow the prompt")
    assert "gun" not in reply.text.casefold()


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_kind_is_refused(atelier, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    reply = atelier.client.post(GENERATIONS, content=b"prompt=x", headers=headers)
    assert_refused(reply, 415, "VALIDATION_ERROR", "application/json", "multipart/form-data")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"prompt":"a","prompt":"b"}'])
def test_json_that_is_no_object_is_refused(atelier, body):
    headers = {"Content-Type": "application/json"}
    reply = atelier.client.post(GENERATIONS, content=body, headers=headers)
    assert_refused(reply, 400, "VALIDATION_ERROR")


def test_a_form_without_its_boundary_is_refused(atelier):
    headers = {"Content-Type": "multipart/form-data"}
    reply = atelier.client.post(GENERATIONS, content=b"--x\r\n", headers=headers)
    assert_refused(reply, 400, "VALIDATION_ERROR")


def test_a_key_that_cannot_be_is_refused(atelier):
    assert_refused(atelier.order(key="k" * 256), 400, "VALIDATION_ERROR", "Idempotency-Key")


def test_the_limits_of_a_picture_are_the_configurations(tmp_path):
    limits = {"input_max_bytes": 1000, "input_max_pixels": 5000}
    with running_atelier(tmp_path, images=limits) as atelier:
        large = {"input1": ("a.png", picture((100, 51)))}
        assert_refused(post(atelier, {"prompt": PROMPT}, large), 400, "VALIDATION_ERROR", "5000")
        heavy = {"input1": ("a.png", picture() + bytes(1000))}
        reply = post(atelier, {"prompt": PROMPT}, heavy)
        assert_refused(reply, 413 if reply.status_code == 413 else 400, "VALIDATION_ERROR", "1000")
        body_limit = 65536 + 2 * 1000
        too_much = {"input1": ("a.png", bytes(body_limit))}
        assert_refused(post(atelier, {"prompt": PROMPT}, too_much), 413, "VALIDATION_ERROR", "body")
        fits = {"input1": ("a.png", picture((100, 50)))}
        assert post(atelier, {"prompt": PROMPT}, fits).status_code == 202


def test_other_moderation_takes_the_place_of_the_list(tmp_path, monkeypatch):
    (tmp_path / "house_rules.py").write_text(
        "from shared.errors import PromptRefused\n"
        "def check(prompt):\n"
        "    if 'boat' in prompt:\n"
        "        raise PromptRefused('We do not show boats. Change the prompt.')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with running_atelier(tmp_path, images={"moderation": "house_rules:check"}) as atelier:
        assert_refused(atelier.order(), 422, "VALIDATION_ERROR", "do not show boats")
        assert atelier.order(prompt="a paper crane").status_code == 202


def test_a_form_says_the_same_as_json(tmp_path):
    with running_atelier(tmp_path, seconds=None) as atelier:
        body = {"prompt": PROMPT, "mode": "generate", "aspectRatio": "3:2"}
        by_form, by_json = post(atelier, body), atelier.client.post(GENERATIONS, json=body)
        assert by_form.status_code == by_json.status_code == 202
        first, second = (order["input"] for order in atelier.orders())
        assert first == second


def test_a_file_that_was_not_chosen_is_none(tmp_path):
    boundary = "x1"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{PROMPT}\r\n',
        f'--{boundary}\r\nContent-Disposition: form-data; name="input1"; filename=""\r\n\r\n\r\n',
        f"--{boundary}--\r\n",
    ]
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with running_atelier(tmp_path, seconds=None) as atelier:
        reply = atelier.client.post(GENERATIONS, content="".join(parts), headers=headers)
        assert reply.json()["settings"]["mode"] == "generate"


def test_the_strict_reader_of_json_is_the_one_in_use(atelier):
    assert isinstance(atelier.api.app.json, StrictJson)
    reply = atelier.client.post(
        GENERATIONS,
        content=json.dumps({"prompt": "x"}).replace('"x"', "NaN"),
        headers={"Content-Type": "application/json"},
    )
    assert_refused(reply, 400, "VALIDATION_ERROR")
