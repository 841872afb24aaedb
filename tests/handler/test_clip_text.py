"""Texts -> tokens, against OpenAI's own tokenizer."""

from __future__ import annotations

import html.entities
import random
import unicodedata

import clip_openai
import clip_text
import pytest
import torch
from clip_inputs import Refusal
from hypothesis import given
from hypothesis import strategies as st

from ..support.openai_clip import OpenAIClip
from ..support.samples import SENTENCES

VOCABULARY = clip_openai.package_file("bpe_simple_vocab_16e6.txt.gz")


TOKENIZER = clip_text.Tokenizer(VOCABULARY)
OPENAI = clip_openai.simple_tokenizer().SimpleTokenizer(str(VOCABULARY))


@pytest.mark.parametrize("text", SENTENCES)
def test_tokens_are_those_of_openai(openai_clip: OpenAIClip, text: str) -> None:
    read = TOKENIZER.tokenize(text.encode())
    tokens, cut = read.ids, read.cut
    padded = torch.zeros(77, dtype=torch.int)
    padded[: len(tokens)] = torch.tensor(tokens)
    assert torch.equal(padded, openai_clip.tokenize(text)[0])
    assert cut == (len(openai_clip._clip._tokenizer.encode(text)) > 75)


# What people write, and what programs make of it on the way.
_PIECES = [
    "a",
    "the",
    "cat",
    "dog",
    "harbour",
    "ship",
    "crane",
    "naïve",
    "Straße",
    "Überschrift",
    "El",
    "niño",
    "Привет",
    "мир",
    "東京",
    "夜景",
    "กรุงเทพฯ",
    "서울",
    "زلزال",
    "שלום",
    "मुंबई",
    "🙂",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇪🇺",
    "&amp;",
    "&lt;b&gt;",
    "&eacute;t&eacute;",
    "&amp;quot;",
    "&#1055;&#x434;",
    "&notin",
    "＆amp;",
    "AT&T",
    "R&D",
    "schÃ¶n",
    "cafÃ©",
    "naÃ¯ve",
    "â€œyesâ€\x9d",
    "ﬁne",
    "“quotes”",
    "…",
    "–",
    "—",
    "1966",
    "3.14",
    "1,234.56",
    "20%",
    "it's",
    "they'd've",
    "<b>",
    "<|endoftext|>",
    "#tag",
    "@agency",
    "x\u200by",
    "so\xadft",
    "é",
    "ＬＯＵＤ",
    "x\x1b[31mred",
    "x",
    "y",
    "½",
    "²",
    "™",
    "https://example.org/?a=1&b=2",
    "internationalisation",
]


_GAPS = (" ", " ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "", ", ")


def _ordinary(numbers: random.Random) -> str:
    words = numbers.choice((1, 2, 5, 9, 20, 40, 80))
    return "".join(numbers.choice(_PIECES) + numbers.choice(_GAPS) for _ in range(words))


def _odd(numbers: random.Random) -> str:
    blocks = ((32, 127), (0xA0, 0x250), (0x370, 0x530), (0x600, 0x700), (0x4E00, 0x5000), (0x1F300, 0x1F700))
    return "".join(chr(numbers.randrange(*numbers.choice(blocks))) for _ in range(numbers.randrange(1, 200)))


@pytest.mark.slow
def test_two_thousand_texts_have_the_tokens_of_openai() -> None:
    numbers, full = random.Random(11), 0
    for number in range(2000):
        text = _odd(numbers) if number % 4 == 0 else _ordinary(numbers)
        expected = OPENAI.encode(text)
        if not any(unicodedata.category(character)[0] in "LNPS" for character in text):
            continue
        tokens = TOKENIZER.tokenize(text.encode())
        assert tokens.ids == [49406, *expected[:75], 49407], text
        assert tokens.cut == (len(expected) > 75), text
        full += tokens.cut
    assert 200 < full < 1800  # both kinds were among them


_TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*_PIECES, *_GAPS]),
        st.sampled_from([*("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"), *("’s", "'S", "'LL")]),
        st.sampled_from(sorted(html.entities.html5)).map(lambda name: f"&{name}"),
        st.integers(0, 0x110000).map(lambda number: f"&#{number};"),
        st.integers(0, 0x110000).map(lambda number: f"&#x{number:x};"),
        st.characters(categories=["So", "Sk", "Zs", "Zl", "Zp", "Cc", "Cf", "Mn", "Me"]),
        st.text(max_size=12),
    ),
    max_size=60,
).map("".join)
_FILLERS = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # letters and symbols that show nothing


@given(_TEXTS)
def test_any_text_has_the_tokens_of_openai_or_nothing_visible(text: str) -> None:
    openai = clip_openai.simple_tokenizer()
    try:
        tokens = TOKENIZER.tokenize(text.encode())
    except Refusal:
        categories = {unicodedata.category(each)[0] for each in openai.basic_clean(text) if each not in _FILLERS}
        assert not categories & set("LNPS")
        return
    expected = OPENAI.encode(text)
    assert tokens.ids == [49406, *expected[:75], 49407]
    assert tokens.cut == (len(expected) > 75)


def test_a_word_is_merged_as_openai_does() -> None:
    numbers = random.Random(4)
    for length in [*range(1, 40), 100, 300]:
        for alphabet in ("ab", "etaoin", "abcdefghijklmnopqrstuvwxyz"):
            word = "".join(numbers.choice(alphabet) for _ in range(length))
            symbols = [*word[:-1], word[-1] + "</w>"]
            assert " ".join(clip_text.merged(symbols, OPENAI.bpe_ranks)) == OPENAI.bpe(word)


@pytest.mark.parametrize(
    "text",
    [
        *("", " \n", "\u200b\u200b\u200d", "\ufeff", "&nbsp;&nbsp;", "\u00a0 \u3000", "&#8203;", "\u00ad", "\ufe0f"),
        *("\u0301", "\u3164", "\u2800", "\U000e0041", "\0\x1b[31m", "&amp;#8203;", "\u2066\u2069", "\u202e"),
    ],
    ids=ascii,
)
def test_a_text_without_a_visible_character_is_empty(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        TOKENIZER.tokenize(text.encode())
    assert (caught.value.status, caught.value.code) == (400, "empty_text")


@pytest.mark.parametrize("text", ["a\u200b", "½", "🙂", "漢", "́a", ".", "\ue000", "\u200b.", "☃\ufe0f"], ids=ascii)
def test_one_visible_character_is_enough(text: str) -> None:
    assert len(TOKENIZER.tokenize(text.encode()).ids) >= 3


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html><html><head><title>Harbour</title></head><body><p>The ship &amp; the crane.</p></body></html>",
        "<|endoftext|> nuclear power plant at night",
        "&lt;|endoftext|&gt; nuclear power plant at night",
        "<|startoftext|>",
        '{"text": "a cat", "id": "x"}',
    ],
)
def test_markup_is_taken_literally(text: str) -> None:
    assert TOKENIZER.tokenize(text.encode()).ids[1:-1] == OPENAI.encode(text)[:75]


def test_what_stands_behind_pages_of_blanks_is_read() -> None:
    cat = TOKENIZER.tokenize(b"cat").ids
    for blank in (" ", "\n", "\u3000", "\r\n", "\n \t"):
        assert TOKENIZER.tokenize((blank * (60_000 // len(blank.encode())) + "cat").encode()).ids == cat
