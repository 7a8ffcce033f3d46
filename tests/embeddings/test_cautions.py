"""Warnings about texts: what the texts share, and what the tokenizer cannot read."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tempscale import docstrings
from tempscale.embeddings.cautions import alike, check_characters, shared_opening, unreadable
from tempscale.embeddings.controls import content_ids

ROOM = 14  # content tokens of a cut at 16
PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "matplotlib")

# The same news, in languages whose script a tokenizer for English has, spells out, or lacks.
READ = {
    "English": "The committee will publish its findings next week. Residents had complained for months about the noise.",
    "German": "Der Ausschuss wird seine Ergebnisse in der nächsten Woche veröffentlichen. Die Anwohner hatten geklagt.",
    "French": "Le comité publiera ses conclusions la semaine prochaine. Les habitants se plaignaient depuis des mois.",
    "Spanish": "El comité publicará sus conclusiones la próxima semana. Los vecinos llevaban meses quejándose del ruido.",
    "Finnish": "Valiokunta julkaisee havaintonsa ensi viikolla. Asukkaat olivat valittaneet kuukausia lentokentän melusta.",
}
SPELLED = {
    "Russian": "Комитет опубликует свои выводы на следующей неделе. Жители месяцами жаловались на шум аэропорта.",
    "Greek": "Η επιτροπή θα δημοσιεύσει τα πορίσματά της την επόμενη εβδομάδα. Οι κάτοικοι διαμαρτύρονταν επί μήνες.",
    "Arabic": "ستنشر اللجنة نتائجها الأسبوع المقبل. وكان السكان يشتكون منذ شهور من ضجيج المطار.",
    "Hebrew": "הוועדה תפרסם את ממצאיה בשבוע הבא. התושבים התלוננו במשך חודשים על הרעש משדה התעופה.",
    "Hindi": "समिति अगले सप्ताह अपने निष्कर्ष प्रकाशित करेगी। निवासी महीनों से हवाई अड्डे के शोर की शिकायत कर रहे थे।",
    "Korean": "위원회는 다음 주에 조사 결과를 발표할 예정이다. 주민들은 몇 달 동안 공항의 소음에 대해 불평해 왔다.",
}
UNKNOWN = {
    "Chinese": "委员会将于下周公布调查结果。居民几个月来一直抱怨机场的噪音。",
    "Japanese": "委員会は来週、調査結果を公表する予定です。住民は何か月も空港の騒音に苦情を訴えていました。",
    "Thai": "คณะกรรมการจะเผยแพร่ผลการสอบสวนในสัปดาห์หน้า",
    "emoji": "😀😀 great 🎉🎉 see you 🚀 tomorrow 😂",
}


@pytest.fixture(scope="module")
def library(minilm):
    """Content ids of docstrings of at least 64 tokens, by package."""
    return {
        package: [ids[:ROOM] for ids in content_ids(minilm, list(docstrings([package], min_tokens=64).text[:1000]))]
        for package in PACKAGES
    }


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=2, max_size=8))
def test_alike_is_the_mean_over_pairs(openings):
    pairs = [np.mean(np.equal(a, b)) for a, b in itertools.combinations(openings, 2)]
    assert alike(openings) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("size", [40, 100])
@pytest.mark.parametrize("package", PACKAGES)
def test_ordinary_texts_do_not_begin_alike(minilm, library, package, size):
    samples = [random.Random(seed).sample(library[package], size) for seed in range(50)]
    assert [shared_opening(minilm.tokenizer, sample) for sample in samples] == [None] * 50


TEMPLATES = {
    "markup": lambda i: "<p>",
    "element": lambda i: '<div class="body">',
    "phrase": lambda i: "Dear customer service team, ",
    "header": lambda i: "From: support@example.com To: all@example.com Subject: ",
    "numbered": lambda i: f"[TICKET-{1000 + 37 * i}] Priority: high. ",
    "dated": lambda i: f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d} ERROR server: ",
    "named": lambda i: f"{('Anna', 'Bob', 'Frank', 'Joe')[i % 4]} wrote on Monday: ",
    "of three kinds": lambda i: ("Dear customer service team, ", '<div class="body">', "From: a@example.com ")[i % 3],
}


@pytest.mark.parametrize("share", [0.8, 1.0])
@pytest.mark.parametrize("template", TEMPLATES)
def test_texts_that_begin_alike_are_warned_of(minilm, template, share):
    texts = docstrings(["scipy"], min_tokens=64).text[:100]
    given_ = [TEMPLATES[template](i) + text if i < share * 100 else text for i, text in enumerate(texts)]
    caution = shared_opening(minilm.tokenizer, [ids[:ROOM] for ids in content_ids(minilm, given_)])
    assert (caution.kind, caution.of) == ("alike", 100)
    assert f"{caution.texts} of 100 texts begin with" in caution.sentence
    assert "short cuts are dominated by that" in caution.sentence
    assert "take out what they share there" in caution.sentence


@pytest.mark.parametrize(
    ("prefixes", "begin"),
    [
        (lambda i: "Dear customer, " * (i < 62), "62 of 100 texts begin with 'dear customer,', "),
        (TEMPLATES["of three kinds"], "34 of 100 texts begin with 'dear customer service team,', "),
        (
            lambda i: f"Hello {('Anna', 'Bob', 'Joe')[i % 3]}, thanks! ",
            "100 of 100 texts begin with 'hello … , thanks!', ",
        ),
    ],
)
def test_how_many_begin_with_what(minilm, prefixes, begin):
    texts = docstrings(["scipy"], min_tokens=64).text[:100]
    given_ = [prefixes(i) + text for i, text in enumerate(texts)]
    caution = shared_opening(minilm.tokenizer, [ids[:ROOM] for ids in content_ids(minilm, given_)])
    assert caution.sentence.startswith(begin)


@pytest.fixture(scope="module")
def bytewise():
    """A tokenizer that knows every byte, and English words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*docstrings(["scipy", "numpy"]).text, READ["English"]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def said(tokenizer, texts):
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return " ".join(caution.sentence for caution in unreadable(tokenizer, texts, ids))


@pytest.mark.parametrize("other", [1, 19])
@pytest.mark.parametrize("language", [*READ, *SPELLED, *UNKNOWN])
def test_scripts_that_a_tokenizer_for_english_cannot_read(minilm, language, other):
    """In some of the texts, too: one of 2, one of 20."""
    text = {**READ, **SPELLED, **UNKNOWN}[language]
    found = said(minilm.tokenizer, [text, *[READ["English"]] * other])
    assert (f"1 of {other + 1} texts is spelled out" in found) == (language in SPELLED)
    if language != "Korean":  # a syllable of the sample is unknown
        assert (f"1 of {other + 1} texts has characters that" in found) == (language in UNKNOWN)
    assert ("[UNK]" in found) == ("the model cannot read" in found)


@pytest.mark.parametrize("language", [*SPELLED, *UNKNOWN])
def test_bytes_are_no_words(bytewise, language):
    assert "1 of 2 texts is spelled out" in said(bytewise, [{**SPELLED, **UNKNOWN}[language], READ["English"]])


def test_english_and_code_are_read(minilm, bytewise):
    texts = list(docstrings(PACKAGES).text.sample(500, random_state=0))
    assert said(minilm.tokenizer, texts) == said(bytewise, texts) == ""


def test_characters_of_their_own_are_no_fault(minilm):
    """A tokenizer for Chinese has a token for a sign, and that is not spelling."""
    signs = sorted(set(UNKNOWN["Chinese"]))
    words = Tokenizer(models.WordLevel({sign: k for k, sign in enumerate(["[UNK]", *signs])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    assert said(tokenizer, [UNKNOWN["Chinese"]]) == ""


@given(st.lists(st.text(max_size=4), max_size=3), st.text(max_size=4), st.integers(0xD800, 0xDFFF))
def test_half_a_character(before, text, half):
    check_characters([*before, text])
    with pytest.raises(ValueError, match=rf"^texts\[{len(before)}\] has half of a character, '\\ud[89a-f]"):
        check_characters([*before, text + chr(half), text])
