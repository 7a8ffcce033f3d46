"""What about texts makes a diagnosis of them mislead: openings that they share, and characters that the tokenizer lacks."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tempscale.embeddings.controls import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The share of equal tokens, in the openings of two texts, from which on they are said to be shared. Among samples of at
# least 40 docstrings, reviews or abstracts it is hardly ever above 0.07, and of samples of 20 at most 1 in 150 reaches 0.09;
# from 0.1 on, a rise of the mean cosine by 0.08 was found to shrink, often to less than half.
ALIKE = 0.09
# The share of a text's tokens that may be unknown, and of texts that may be unreadable. In docstrings, reviews and abstracts
# at most 0.013 of a text's tokens are unknown.
FEW = 0.05

# How often a tokenizer that knows a script needs a token, at most: fewer than one for a letter of an alphabet, about one
# for a sign that is a word or a syllable by itself. One that does not know it takes letters or bytes.
_PER_LETTER, _PER_SIGN = 0.75, 1.5
_SIGNS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
# How tokenizers write a space, a line break or the middle of a word.
_MARKS = str.maketrans("", "", "ĠĊĉč▁#")


@dataclass(frozen=True)
class Caution:
    """What about texts makes a diagnosis of them mislead.

    Attributes:
        kind: "few" texts; texts that begin "alike"; with "unknown" characters; or "spelled" out, in letters or bytes.
        texts: number of texts that are so.
        of: number of texts that were looked at.
        sentence: what is so, what it does, and what to do about it.
    """

    kind: Literal["few", "alike", "unknown", "spelled"]
    texts: int
    of: int
    sentence: str


def check_characters(texts: Sequence[str]) -> None:
    """Raise ValueError if a text holds half of a pair of surrogates, which has no encoding, so that no tokenizer reads it.

    >>> check_characters(["fine", "half of a smiley: \\ud83d"])
    Traceback (most recent call last):
    ValueError: texts[1] has half of a character, '\\ud83d', which no model reads: put U+FFFD in its place
    """
    for number, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"texts[{number}] has half of a character, {text[error.start]!r}, which no model reads: "
                "put U+FFFD in its place"
            ) from error


def alike(openings: Sequence[Ids]) -> float:
    """Return the share of places at which two different openings have the same token, on average.

    Args:
        openings: at least two, of the same number of tokens.

    >>> alike([[1, 2, 3, 4], [1, 2, 5, 6]]), alike([[1, 2], [1, 3], [1, 4]])
    (0.5, 0.5)
    """
    n = len(openings)
    equal = sum(k * (k - 1) for place in zip(*openings, strict=True) for k in Counter(place).values())
    return equal / (n * (n - 1) * len(openings[0]))


def shared_opening(tokenizer: "PreTrainedTokenizerBase", openings: Sequence[Ids]) -> Caution | None:
    """Return a caution if texts begin alike: two openings have, on average, 9 % of their tokens in the same places.

    Args:
        tokenizer: what made the tokens.
        openings: content ids that the shortest cut leaves of each text, all of the same number.

    >>> from tempscale import load_model
    >>> tokenizer = load_model("minilm").tokenizer
    >>> openings = tokenizer(["<p>", "<p>", "No, thanks"], add_special_tokens=False)["input_ids"]
    >>> print(shared_opening(tokenizer, openings).sentence)  # doctest: +ELLIPSIS
    2 of 3 texts begin with '< p >', and short cuts are dominated by that: two texts have 1.0 of their first 3 tokens ...
    """
    share, n = alike(openings), len(openings)
    if share < ALIKE:
        return None
    # Of texts of several kinds the most frequent: those that have the most frequent token in its place.
    frequent = [Counter(place).most_common(1)[0] for place in zip(*openings, strict=True)]
    first = max(range(len(frequent)), key=lambda place: frequent[place][1])
    kind = [ids for ids in openings if ids[first] == frequent[first][0]]
    usual = [Counter(place).most_common(1)[0] for place in zip(*kind, strict=True)]
    shared = [token if 2 * count > len(kind) else None for token, count in usual]
    wanted = [place for place, token in enumerate(shared) if token is not None]
    having = sum(2 * sum(ids[k] == shared[k] for k in wanted) >= len(wanted) for ids in openings)
    sentence = (
        f"{having} of {n} texts begin with {_shown(tokenizer, shared)!r}, and short cuts are dominated by that: two "
        f"texts have {share * len(shared):.1f} of their first {len(shared)} tokens in common. Their likeness "
        "at the shortest length is that of these tokens: take out what they share there (markup, a header, a salutation)."
    )
    return Caution("alike", having, n, sentence)


def _shown(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int | None]) -> str:
    """Return tokens as text, with dots for what differs between the texts."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token is not None:
            parts[-1].append(token)
        elif parts[-1]:
            parts.append([])
    return " … ".join(str(tokenizer.decode(part)).strip() for part in parts if part)


def unreadable(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], ids: Sequence[Ids]) -> list[Caution]:
    """Return a caution for each way in which a tokenizer fails on at least 1 of 20 texts.

    A text fails if more than 5 % of its tokens are unknown; or if it is spelled out, with more than 0.75 tokens for each
    letter, or 1.5 where a letter is a word or a syllable by itself (Chinese, Japanese, Korean), as no tokenizer does whose
    vocabulary has words of the language. That tells scripts apart and not languages: German in a model for English passes.

    Args:
        tokenizer: what made the tokens.
        texts: strings.
        ids: their content ids, not empty.

    >>> from tempscale import load_model
    >>> tokenizer = load_model("minilm").tokenizer
    >>> texts = ["The weather is fine.", "今天天气很好。", "Погода сегодня хорошая."]
    >>> for caution in unreadable(tokenizer, texts, tokenizer(texts, add_special_tokens=False)["input_ids"]):
    ...     print(caution.sentence.split(":")[0])
    1 of 3 texts has characters that the tokenizer does not know
    1 of 3 texts is spelled out
    """
    found = []
    unknown = tokenizer.unk_token_id
    lost = [(k, len(one)) for one in ids if (k := one.count(unknown)) > FEW * len(one)]
    if lost and len(lost) >= FEW * len(texts):
        share = sum(k for k, _ in lost) / sum(n for _, n in lost)
        sentence = (
            f"{_of(len(lost), len(texts), 'has', 'have')} characters that the tokenizer does not know: {share:.0%} of the "
            f"tokens there are {tokenizer.unk_token}, which the model cannot read. Take a model for this language or script."
        )
        found.append(Caution("unknown", len(lost), len(texts), sentence))
    spelled = [counts for text, one in zip(texts, ids, strict=True) if (counts := _spelled(tokenizer, text, one))]
    if spelled and len(spelled) >= FEW * len(texts):
        rate = sum(tokens for tokens, _ in spelled) / sum(letters for _, letters in spelled)
        sentence = (
            f"{_of(len(spelled), len(texts), 'is', 'are')} spelled out: the tokenizer takes {rate:.1f} tokens for a letter "
            "there, because its vocabulary has no words of this language or script. Take a model that was trained on it."
        )
        found.append(Caution("spelled", len(spelled), len(texts), sentence))
    return found


def _of(some: int, of: int, one: str, more: str) -> str:
    return f"{some} of {of} texts {one if some == 1 else more}"


def _spelled(tokenizer: "PreTrainedTokenizerBase", text: str, ids: Ids) -> tuple[int, int] | None:
    """Return the tokens and letters of a text whose letters are read singly, or None."""
    letters = [c for c in text if _is_letter(c)]
    signs = sum(unicodedata.name(c, "").startswith(_SIGNS) or unicodedata.category(c)[0] not in "LM" for c in letters)
    tokens = sum(any(map(_is_letter, token.translate(_MARKS))) for token in tokenizer.convert_ids_to_tokens(ids))
    return (tokens, len(letters)) if tokens > _PER_LETTER * (len(letters) - signs) + _PER_SIGN * signs else None


def _is_letter(character: str) -> bool:
    """Whether it is a letter, a mark on one, or anything else beyond ASCII, such as what stands for a byte."""
    return character.isalpha() or not (character.isascii() or character.isspace())
