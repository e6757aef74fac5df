"""A prompt divided by rule: who shows what, and where a sentence ends."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gpu_worker.pipeline.division import divide


def prompts(prompt, segments):
    return [segment.prompt for segment in divide(prompt, segments)]


def sentences(prompt, count):
    """What the prompt falls into when it is divided as finely as is expected; the rest is whole."""
    first, *others = prompts(prompt, count)
    return [first, *(other.removeprefix(first).strip() for other in others)]


@pytest.mark.parametrize(
    ("segments", "shares"),
    [
        (1, [[1, 2, 3, 4, 5, 6, 7]]),
        (2, [[1, 2, 3], [1, 4, 5, 6, 7]]),
        (3, [[1, 2], [1, 3, 4], [1, 5, 6, 7]]),
        (7, [[1], [1, 2], [1, 3], [1, 4], [1, 5], [1, 6], [1, 7]]),
    ],
)
def test_sentences_are_shared_out_evenly_each_after_the_one_that_sets_the_scene(segments, shares):
    prompt = " ".join(f"Number {number} comes." for number in range(1, 8))
    assert prompts(prompt, segments) == [
        " ".join(f"Number {number} comes." for number in share) for share in shares
    ]


def test_the_picture_that_a_segment_begins_with_shows_the_scene_and_what_happens_first():
    planned = divide("A park. A dog runs. It barks. A cat sleeps. It wakes. Rain.", 3)
    assert [segment.keyframe_description for segment in planned] == [
        "A park.",
        "A park. It barks.",
        "A park. It wakes.",
    ]


@pytest.mark.parametrize("segments", [2, 3, 9])
def test_a_prompt_of_fewer_sentences_goes_on_whole_in_every_segment(segments):
    planned = divide("  a cat on a sofa, purring ", segments)
    assert len(planned) == segments
    assert {(it.prompt, it.keyframe_description) for it in planned} == {
        ("a cat on a sofa, purring",) * 2
    }


@pytest.mark.parametrize(
    "prompt",
    [
        "A cat wakes. It eats. It sleeps.",
        "A cat wakes! It eats?  It sleeps",
        "A cat wakes, then It eats, and then It sleeps",
        "A cat wakes then It eats and THEN It sleeps",
        "A cat wakes; It eats ;It sleeps;",
        "A cat wakes；It eats；It sleeps",
        "A cat wakes\nIt eats\r\n\n  It sleeps\n",
        "A cat wakes… It eats… It sleeps…",
    ],
)
def test_a_sentence_ends_at_its_mark_at_a_line_or_where_something_follows(prompt):
    told = [re.sub(r"\W+$", "", sentence) for sentence in sentences(prompt, 3)]
    assert told == ["A cat wakes", "It eats", "It sleeps"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("猫走过。狗跑来！鸟飞吗？", ["猫走过。", "狗跑来！", "鸟飞吗？"]),
        ("猫が鳴く。 犬が走る。", ["猫が鳴く。", "犬が走る。"]),
        (
            "「起きて！」と言う。犬が走る？！鳥。",
            ["「起きて！」", "と言う。", "犬が走る？！", "鳥。"],
        ),
        ("एक बिल्ली। एक कुत्ता।", ["एक बिल्ली।", "एक कुत्ता।"]),
        ("هل القطة نائمة؟ الكلب يركض.", ["هل القطة نائمة؟", "الكلب يركض."]),
    ],
)
def test_other_scripts_end_their_sentences_with_marks_of_their_own(prompt, expected):
    assert sentences(prompt, len(expected)) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith and Mrs. Jones meet St. Nicholas.",
        "A wall of 3.5 m. height falls.",
        "Fruit, e.g. apples, i.e. food, falls.",
        "J. R. R. Tolkien writes at 5 p.m. sharp.",
        "1. A man walks.",
        "12. A man walks.",
        "Z. B. ein Hund läuft ca. 5 Meter.",
        "Every now and then it rains.",
        "Since then nobody talks, and even then little.",
        "www.example.com is shown.",
    ],
)
def test_a_full_stop_or_then_within_a_sentence_does_not_end_it(sentence):
    assert sentences(f"{sentence}\nRain falls.", 2) == [sentence, "Rain falls."]
    # No finer than that: it would have been shared out.
    assert prompts(f"{sentence}\nRain falls.", 3) == [f"{sentence}\nRain falls."] * 3


def test_a_sentence_may_end_within_a_quote_or_brackets():
    assert sentences('He says "Stop." She goes. (A door.) Rain', 4) == [
        'He says "Stop."',
        "She goes.",
        "(A door.)",
        "Rain.",
    ]


def test_a_number_at_the_end_of_a_sentence_ends_it():
    assert sentences("He counts to 3. She runs.", 2) == ["He counts to 3.", "She runs."]


def test_the_prompt_does_not_leak_through_a_plans_repr():
    assert "elephant" not in repr(divide("An elephant. A tiger.", 2))


texts = st.text(st.sampled_from("ab. ;\n!?。」\"'3") | st.characters(codec="utf-8"), min_size=1)


@given(texts.filter(str.strip), st.integers(1, 12))
def test_whatever_is_written_every_segment_shows_something_and_the_same_each_time(text, segments):
    planned = divide(text, segments)
    assert len(planned) == segments
    for segment in planned:
        assert segment.prompt.strip()
        assert segment.keyframe_description.strip()
    assert divide(text, segments) == planned


words = st.text(st.sampled_from("abcdefg"), min_size=2, max_size=5)
between = st.sampled_from([". ", "! ", "; ", "\n", ", then ", " and then ", "。", ", "])


@given(st.lists(st.tuples(words, between), min_size=1, max_size=20), st.integers(1, 8))
def test_no_word_of_the_prompt_is_lost_and_their_order_is_kept(pairs, segments):
    planned = prompts("".join(word + separator for word, separator in pairs).strip(), segments)
    shown = [word for prompt in planned for word in re.findall("[a-g]{2,}", prompt)]
    remaining = iter(shown)
    assert all(word in remaining for word, _ in pairs)
