"""Prompts become the tokens that transformers makes of them, after diffusers has cleaned them."""

import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer

from services.gpu_worker.engine.text import (
    TOKENS_MAX,
    TextEncoder,
    clean_prompt,
    load_tokenizer,
)
from services.gpu_worker.engine.umt5 import UMT5Config, UMT5Encoder

LONG = "a red circle moves left and " * 120
PROMPTS = [
    "",
    " ",
    "a red circle moves left",
    "A Red Circle, slowly!",
    "zyxwvu qqq 123",
    "  a\tred \n\n circle\r\n",
    "salt &amp; pepper &amp;lt;b&amp;gt;",
    "a&nbsp;red\u00a0circle\u2003moves",
    "“a cat’s tail” … ﬁne",
    "naïve façade, 東京の夜, привет 🎬",
    "âœ” it was utf-8 once",
    "</s> and <pad> are words of a prompt too",
    "<b>bold</b> &amp;amp;lt; plain",
    "a" * 700,
    LONG,
    "circle " * (TOKENS_MAX - 1),
    "circle " * TOKENS_MAX,
]


@pytest.fixture(scope="module")
def tokenizer(demo_model_dir):
    return load_tokenizer(demo_model_dir / "tokenizer" / "tokenizer.json")


@pytest.fixture(scope="module")
def their_tokenizer(demo_model_dir):
    return AutoTokenizer.from_pretrained(demo_model_dir / "tokenizer", local_files_only=True)


@pytest.fixture
def text(tokenizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = UMT5Config(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=8,
            d_kv=4,
            d_ff=8,
            num_layers=1,
            num_heads=2,
        )
        return TextEncoder(tokenizer, UMT5Encoder(config).eval())


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: ascii(prompt[:24]))
def test_a_prompt_becomes_the_tokens_of_transformers(tokenizer, their_tokenizer, prompt):
    expected = their_tokenizer(
        [prompt_clean(prompt)], max_length=TOKENS_MAX, truncation=True, add_special_tokens=True
    ).input_ids[0]

    found = tokenizer.encode(clean_prompt(prompt)).ids

    assert found == expected
    assert found[-1] == their_tokenizer.eos_token_id
    assert len(found) <= TOKENS_MAX


def test_a_long_prompt_is_cut_off_before_its_end_token(tokenizer):
    ids = tokenizer.encode(LONG).ids

    assert len(ids) == TOKENS_MAX
    assert ids.count(ids[-1]) == 1


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        (" a \n red\u00a0 circle ", "a red circle"),
        ("this &amp;amp; that", "this & that"),
        ("“it’s”", '"it\'s"'),
        ("<i>cats &amp;amp; dogs", "<i>cats & dogs"),
        ("cafÃ©", "café"),
    ],
)
def test_a_prompt_is_cleaned(prompt, cleaned):
    assert clean_prompt(prompt) == cleaned


@pytest.mark.parametrize("content", [None, "{}", "no json"], ids=["absent", "empty", "broken"])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, content):
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_tokenizer(file)


def test_an_embedding_has_one_row_a_token(text, tokenizer):
    with torch.inference_mode():
        embedding = text.encode("a red circle")

    assert embedding.shape == (1, len(tokenizer.encode("a red circle").ids), 8)


def test_a_prompt_that_was_forgotten_is_read_anew_to_the_same_embedding(text):
    with torch.inference_mode():
        first = text.encode("a red circle")
        kept = first.clone()
        for number in range(40):
            text.encode(f"circle {number}")
        again = text.encode("a red circle")

    assert again is not first
    assert torch.equal(again, kept)


def test_a_model_of_whole_words_says_which_it_does_not_know():
    words = WordLevel({"<unk>": 0, "a": 1, "red": 2, "circle": 3}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = Whitespace()
    text = TextEncoder(tokenizer, None)

    assert text.unknown_words("a shiny red circle, slowly!") == ([2, 5], 5)
    assert text.unknown_words("a red circle!") == ([], 3)


def test_a_model_that_spells_knows_every_word(text):
    assert text.unknown_words("a zyxwvu circle") == ([], 3)
