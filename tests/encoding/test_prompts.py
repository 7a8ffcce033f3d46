"""Prompts by name, and for local copies that have lost it; nothing here is downloaded."""

import json
import re
import warnings

import pytest

pytest.importorskip("mteb")

import mteb
from mteb.models.abs_encoder import get_prompt
from mteb.types import PromptType

from tempscale.encoding.prompts import prompts_for

BGE = "Represent this sentence for searching relevant passages: "


def local(folder, *, card=None, base=None, name_or_path=None, prompts=None):
    folder.mkdir(parents=True)
    lines = [f"model-index:\n- name: {card}\n  results: []" if card else "", f"base_model: {base}" if base else ""]
    (folder / "README.md").write_text("---\ntags: [x]\n" + "\n".join(lines) + "\n---\n# A model\n")
    config = {"model_type": "bert"} | ({"_name_or_path": name_or_path} if name_or_path else {})
    (folder / "config.json").write_text(json.dumps(config))
    own = {"prompts": prompts or {"query": "", "document": ""}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    return str(folder)


@pytest.fixture
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("_no_warning")
@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("intfloat/e5-base", "query: ", "passage: "),
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("BAAI/bge-base-en-v1.5", BGE, None),
        ("BAAI/bge-small-en", BGE, None),
    ],
)
def test_families_with_prompts(name, query, document):
    prompts = prompts_for(name)
    assert (prompts["query"], prompts.get("document")) == (query, document)


@pytest.mark.usefixtures("_no_warning")
@pytest.mark.parametrize(
    "name",
    [
        "sentence-transformers/gtr-t5-base",
        "thenlper/gte-base",
        "Alibaba-NLP/gte-base-en-v1.5",
        "avsolatorio/GIST-Embedding-v0",
        "sentence-transformers/msmarco-roberta-base-ance-firstp",
        "BAAI/bge-m3",
        "sentence-transformers/all-MiniLM-L6-v2",
        "minilm",
    ],
)
def test_families_without(name):
    assert prompts_for(name) is None


def test_every_e5_text_gets_a_prompt_and_bge_only_queries():
    """As their authors' model cards say; the choice is mteb's own, by task and side."""
    e5, bge = prompts_for("intfloat/e5-base-v2"), prompts_for("BAAI/bge-base-en-v1.5")
    for task, side, of_e5, of_bge in [
        ("SciFact", PromptType.query, "query: ", BGE),
        ("SciFact", PromptType.document, "passage: ", None),
        ("STSBenchmark", None, "query: ", None),
        ("Banking77Classification", None, "query: ", None),
        ("TwentyNewsgroupsClustering", None, "query: ", None),
        ("TwitterSemEval2015", None, "query: ", None),
        ("AskUbuntuDupQuestions", PromptType.query, "query: ", BGE),
        ("AskUbuntuDupQuestions", PromptType.document, "passage: ", None),
    ]:
        metadata = mteb.get_task(task).metadata
        assert get_prompt(e5, metadata, side) == of_e5
        assert get_prompt(bge, metadata, side) == of_bge


@pytest.mark.usefixtures("_no_warning")
@pytest.mark.parametrize(
    ("path", "hints"),
    [
        ("e5-base-v2", {}),
        ("E5-Base-V2", {}),
        ("intfloat_e5-base-v2", {}),
        ("intfloat__e5-base-v2", {}),
        ("models--intfloat--e5-base-v2/snapshots/1c644c92", {}),
        ("downloaded", {"card": "e5-base-v2"}),
        # what it was made from does not matter where it says what it is
        ("e5-base-v2", {"name_or_path": "BAAI/bge-base-en"}),
        # agreeing on the prompts is agreeing
        ("e5-base-v2", {"card": "e5-large-v2"}),
    ],
)
def test_a_local_copy_keeps_its_prompts(tmp_path, path, hints):
    assert prompts_for(local(tmp_path / path, **hints)) == prompts_for("intfloat/e5-base-v2")


@pytest.mark.usefixtures("_no_warning")
def test_a_model_that_is_made_from_another_but_says_what_it_is(tmp_path):
    """GIST is BGE fine-tuned without prompts."""
    hints = {"name_or_path": "BAAI/bge-base-en-v1.5", "base": "BAAI/bge-base-en-v1.5"}
    assert prompts_for(local(tmp_path / "copy", card="GIST-Embedding-v0", **hints)) is None


@pytest.mark.parametrize("hint", ["base", "name_or_path"])
def test_a_fine_tuned_or_folded_model_gets_its_origins_prompts_with_a_warning(tmp_path, hint):
    folder = local(tmp_path / "mine", **{hint: "intfloat/e5-base-v2"})
    message = (
        f"{folder} was made from intfloat/e5-base-v2 and gets its prompts 'query: ' and 'passage: '; if it was trained on "
        "others, put those under 'prompts' in its config_sentence_transformers.json"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        assert prompts_for(folder) == prompts_for("intfloat/e5-base-v2")


@pytest.mark.usefixtures("_no_warning")
def test_an_origin_without_prompts_is_no_matter(tmp_path):
    assert prompts_for(local(tmp_path / "mine", name_or_path="thenlper/gte-base")) is None


@pytest.mark.usefixtures("_no_warning")
def test_prompts_of_its_own_win(tmp_path):
    own = {"query": "ask: ", "document": ""}
    assert prompts_for(local(tmp_path / "e5-base-v2", name_or_path="intfloat/e5-base", prompts=own)) is None


def test_contradictions_are_said(tmp_path):
    folder = local(tmp_path / "bge-base-en-v1.5", card="e5-base-v2")
    message = (
        f"{folder} is intfloat/e5-base-v2 by its model card but BAAI/bge-base-en-v1.5 by its folder's name, with other "
        "prompts: those of intfloat/e5-base-v2 are used; if that is wrong, put the right ones under 'prompts'"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        assert prompts_for(folder)["query"] == "query: "


@pytest.mark.parametrize("name", ["my-e5", "somebody/bge_finetuned-7"])
@pytest.mark.parametrize("is_local", [False, True])
def test_a_name_that_looks_like_a_family_but_is_no_model(tmp_path, name, is_local):
    model = local(tmp_path / name) if is_local else name
    with pytest.warns(
        UserWarning, match="whose models need prompts, but is none that mteb knows: it gets none; give it"
    ):
        assert prompts_for(model) is None


@pytest.mark.usefixtures("_no_warning")
def test_unknown_models_and_damaged_cards(tmp_path):
    assert prompts_for("somebody/novel-base5") is None
    folder = tmp_path / "model"
    for card in ("---\nmodel-index: [\n---\n", "---\n- a\n---\n", "---\nunended", "", "---\nmodel-index:\n---\n"):
        folder.mkdir(exist_ok=True)
        (folder / "README.md").write_text(card)
        assert prompts_for(str(folder)) is None


def test_instructions_are_not_prompts():
    message = (
        "mteb runs intfloat/e5-mistral-7b-instruct with InstructSentenceTransformerModel, which may put instructions"
    )
    with pytest.warns(UserWarning, match=message):
        assert prompts_for("intfloat/e5-mistral-7b-instruct") is None
