"""A remedy in a model: what it computes is plain NumPy's, here, saved, and loaded where there is no tempscale."""

import ast
import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from support.arrays import read_arrays
from support.evaluation import WORDS, write_model

import tempscale
from tempscale import LogLength, PerLayer, Projection, Remedy, Whitening, patch
from tempscale.embeddings.postprocess import AllButTheTop, Centring
from tempscale.embeddings.serving import apply, piece_vectors
from tempscale.embeddings.sides import PerSide
from tempscale.encoding import cutting
from tempscale.encoding.cutting import count_tokens, cut_texts
from tempscale.encoding.reading import Pieces

SIX = hasattr(SentenceTransformer, "preprocess")
PROMPTS = {"query": "ba: ", "document": "be: "}


def text(start, words):
    return " ".join(WORDS[(start + 7 * k * k) % len(WORDS)] for k in range(words))


# The tiny model reads 64 tokens, the packaged one 256; documents are on average longer than queries.
QUERIES = [text(k, 2 + k % 9) for k in range(12)]
DOCUMENTS = [text(5 * k, n) for k, n in enumerate([3, 40, 1, 9, 120, 300, 17, 60, 28, 5, 33, 80])] + [""]
ENGLISH = (
    [f"How does {one} work?" for one in ("a mean", "attention", "a filter", "a very long text", "softmax")],
    [f"{one} takes a mean. " * n for one, n in (("A mean", 1), ("Attention", 9), ("A filter", 30), ("Softmax", 60))],
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model with prompts, whose embeddings have no unit length."""
    return tempscale.load_model(write_model(tmp_path_factory.mktemp("model"), prompts=PROMPTS), device="cpu")


@pytest.fixture(params=["shallow", "tiny"])
def read(request):
    """Each model, with queries and documents for it."""
    return request.getfixturevalue(request.param), *(ENGLISH if request.param == "shallow" else (QUERIES, DOCUMENTS))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def whole(model, texts, prompt):
    return model.encode(texts, prompt=prompt).astype(np.float64)


def in_pieces(model, texts, prompt, pieces):
    """Embed the pieces of each text by themselves, and average them."""
    found = []
    for one in texts:
        cut = cut_texts(model, [one], count_tokens(model, [one], prompt), pieces.tokens, pieces.overlap, prompt)
        vectors = whole(model, cut.texts, prompt)
        mean = unit(vectors).mean(0)
        found.append(vectors[0] if len(vectors) == 1 else unit(mean) * np.linalg.norm(vectors, axis=1).mean())
    return np.array(found)


def late(model, texts, prompt, pieces):
    """Average the tokens of each piece as the model reads them in the whole text."""
    found = []
    for one in texts:
        (tokens,) = model.encode([one], prompt=prompt, output_value="token_embeddings")
        tokens = tokens.double().numpy()
        if not model[1].include_prompt:
            tokens = tokens[len(model.tokenizer(prompt)["input_ids"]) - 1 :]
        number = max(1, int(np.ceil((len(tokens) - pieces.overlap) / (pieces.tokens - pieces.overlap))))
        step = (len(tokens) - pieces.overlap) / number
        spans = [(int(k * step), int((k + 1) * step + 1e-9) + pieces.overlap) for k in range(number)]
        vectors = np.array([tokens[first:last].mean(0) for first, last in spans])
        vectors = unit(vectors) if len(list(model)) == 3 else vectors
        norm = np.linalg.norm(vectors, axis=1).mean()
        found.append(unit(unit(vectors).mean(0)) * norm)
    return np.array(found)


def projected(x, normalised):
    """Take away what a side has in the direction of its own mean."""
    direction = unit(x.mean(0))
    found = x - (x @ direction)[:, None] * direction
    return unit(found) if normalised else found


def prompt_of(model, side):
    return model.prompts.get(side, "")


def is_close(actual, expected, tolerance=1e-6):
    scale = np.linalg.norm(expected, axis=-1).max()
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}, repr(model), dict(vars(model))


def unchanged(model, before):
    values, shown, attributes = before
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert repr(model) == shown
    assert vars(model).keys() == attributes.keys()
    assert all(vars(model)[name] is value for name, value in attributes.items())


def shared(one, other):
    pointers = {tensor.data_ptr() for tensor in other.state_dict().values()}
    return [name for name, tensor in one.state_dict().items() if tensor.data_ptr() in pointers]


# What each of them is, as a function of a model, texts and a prompt; temperatures are patched.
REMEDIES = {
    "project": whole,
    "pieces(16)": lambda *given: in_pieces(*given, Pieces(16)),
    "pieces(20, overlap=6)": lambda *given: in_pieces(*given, Pieces(20, overlap=6)),
    "pieces(16, overlap=4, late=True)": lambda *given: late(*given, Pieces(16, overlap=4)),
    "temperature(0.6, side=document)+pieces(16)+project": lambda *given: in_pieces(*given, Pieces(16)),
}

ALONE = """
import sys
sys.modules["tempscale"] = None  # so that it cannot be imported
import json, numpy as np
from sentence_transformers import SentenceTransformer

for folder, out, trust, queries, documents in json.load(open(sys.argv[1])):
    model = SentenceTransformer(folder, trust_remote_code=trust, device="cpu")
    np.savez(out, query=model.encode_query(queries), document=model.encode_document(documents),
             plain=model.encode(documents), settings=json.dumps([model.prompts, model.similarity_fn_name]))
"""


@pytest.fixture(scope="module")
def alone(shallow, tiny, tmp_path_factory):
    """Every remedy in each model, saved, and loaded in a process that has no tempscale."""
    folder = tmp_path_factory.mktemp("served")
    jobs = []
    for name, model, queries, documents in (("shallow", shallow, *ENGLISH), ("tiny", tiny, QUERIES, DOCUMENTS)):
        for k, remedy in enumerate(REMEDIES):
            texts = {"queries": queries, "documents": documents} if "project" in remedy else {}
            path = str(folder / f"{name}{k}")
            apply(model, remedy, **texts).save_pretrained(path)
            jobs.append([path, f"{path}.npz", remedy != "project", queries, documents])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / "alone.py").write_text(ALONE)
    environment = os.environ | {"HF_MODULES_CACHE": str(folder / "code"), "HF_HOME": str(folder / "home")}
    subprocess.run(
        [sys.executable, "-I", str(folder / "alone.py"), str(folder / "jobs.json")], check=True, env=environment
    )
    return {(name, remedy): folder / f"{name}{k}" for name in ("shallow", "tiny") for k, remedy in enumerate(REMEDIES)}


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize("name", ["shallow", "tiny"])
def test_saved_and_loaded_without_tempscale_it_is_what_numpy_says(alone, request, name, remedy):
    model = request.getfixturevalue(name)
    queries, documents = ENGLISH if name == "shallow" else (QUERIES, DOCUMENTS)
    embed = REMEDIES[remedy]
    expected = {"query": embed(model, queries, prompt_of(model, "query")), "plain": embed(model, documents, "")}
    if "temperature" in remedy:
        with patch(model, 0.6):
            expected["document"] = embed(model, documents, prompt_of(model, "document"))
    else:
        expected["document"] = embed(model, documents, prompt_of(model, "document"))
    if "project" in remedy:
        for side in ("query", "document"):
            expected[side] = projected(expected[side], normalised=name == "shallow")
    found = read_arrays(f"{alone[name, remedy]}.npz")
    for side, vectors in expected.items():
        is_close(found[side], vectors, 1e-6 if "temperature" not in remedy else 5e-6)
    prompts, similarity = json.loads(str(found["settings"]))
    assert prompts.items() >= model.prompts.items()
    assert similarity == model.similarity_fn_name
    # Queries have neither temperature nor pieces, being short; documents have.
    assert np.abs(expected["document"] - whole(model, documents, prompt_of(model, "document"))).max() > 1e-2


def test_code_is_run_with_trust_only(alone, shallow):
    folder = alone["shallow", "pieces(16)"]
    with pytest.raises(ValueError, match="comes with Python code of its own, which was not run"):
        tempscale.load_model(str(folder))
    loaded = tempscale.load_model(str(folder), trust_remote_code=True, device="cpu")
    is_close(loaded.encode_document(ENGLISH[1]), read_arrays(f"{folder}.npz")["document"])
    if SIX:
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            SentenceTransformer(str(folder))
    tempscale.load_model(str(alone["shallow", "project"]), device="cpu")  # has no code


def test_a_loaded_model_is_saved_again(alone, tmp_path):
    folder = alone["tiny", "temperature(0.6, side=document)+pieces(16)+project"]
    loaded = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    loaded.save_pretrained(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    np.testing.assert_array_equal(again.encode_document(DOCUMENTS), loaded.encode_document(DOCUMENTS))


def test_the_file_of_code_imports_torch_and_sentence_transformers_only():
    code = ast.parse(Path(cutting.__file__).read_text())
    names = {alias.name for node in ast.walk(code) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)}
    rooms = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert rooms == {"torch", "sentence_transformers"}


@pytest.mark.parametrize(
    "remedy",
    ["pieces(16)", "pieces(20, overlap=6)", "pieces(16, late=True)", "temperature(0.6, side=query)+pieces(16)"],
)
def test_it_is_what_evaluate_measures(tiny, remedy):
    pytest.importorskip("mteb", reason="mteb is not installed: pip install 'tempscale[eval]'")
    from types import SimpleNamespace

    from datasets import Dataset
    from mteb.types import PromptType

    from tempscale.encoding.encoder import Encoder

    encoder = Encoder(tiny, prompts=PROMPTS)
    encoder.begin(tempscale.read_remedy(remedy))
    task = SimpleNamespace(name="SciFact", type="Retrieval")

    def measured(texts, side):
        inputs = SimpleNamespace(dataset=Dataset.from_dict({"text": texts}))
        return encoder.encode(inputs, task_metadata=task, hf_split="test", hf_subset="x", prompt_type=PromptType(side))

    served = apply(tiny, remedy)
    expected = measured(QUERIES, "query"), measured(DOCUMENTS, "document")
    encoder.close()
    is_close(served.encode_query(QUERIES), expected[0], 5e-6 if "temperature" in remedy else 1e-6)
    is_close(served.encode_document(DOCUMENTS), expected[1])


@pytest.mark.parametrize(
    ("side", "layers"),
    [("both", None), ("both", "all"), ("both", [0, 2]), ("query", "last:1"), ("document", None), ("document", [-1])],
)
def test_a_temperature_is_that_of_patch(tiny, layers, side):
    before = state(tiny)
    served = apply(tiny, Remedy(temperature=0.5, layers=layers, side=side))
    plain = {one: whole(tiny, DOCUMENTS, prompt) for one, prompt in {**PROMPTS, "plain": ""}.items()}
    with patch(tiny, 0.5, layers=layers):
        tempered = {one: whole(tiny, DOCUMENTS, prompt) for one, prompt in {**PROMPTS, "plain": ""}.items()}
    expected = {one: tempered[one] if side in (one, "both") else plain[one] for one in plain}
    for embed, one in (
        (served.encode_query, "query"),
        (served.encode_document, "document"),
        (served.encode, "plain"),
    ):
        is_close(embed(DOCUMENTS), expected[one], 5e-6)
        assert np.abs(tempered[one] - plain[one]).max() > 1e-2
    unchanged(tiny, before)


def test_a_schedule_by_layer(tiny):
    schedule = PerLayer([0.5, 1.0, 1.3])
    with patch(tiny, schedule):
        expected = tiny.encode(DOCUMENTS)
    is_close(apply(tiny, Remedy(temperature=schedule)).encode(DOCUMENTS), expected, 5e-6)
    with patch(tiny, schedule, layers=[0, 1]):
        expected = tiny.encode(DOCUMENTS)
    is_close(apply(tiny, Remedy(temperature=schedule, layers=[0, 1])).encode(DOCUMENTS), expected, 5e-6)


@pytest.mark.parametrize(
    ("remedy", "own"),
    [
        ("none", 0),
        ("project", 4),  # weight and bias of two Dense layers
        ("pieces(16)", 0),
        ("temperature(0.5)", 3),  # the queries of three layers, whose biases are zero
        ("temperature(0.5, layers=last:1, side=query)+pieces(16)+project", 5),
    ],
)
def test_weights_that_do_not_change_are_shared_and_moving_one_model_leaves_the_other(tiny, remedy, own):
    before = state(tiny)
    texts = {"queries": QUERIES, "documents": DOCUMENTS} if "project" in remedy else {}
    served = apply(tiny, remedy, **texts)
    assert len(served.state_dict()) - len(shared(served, tiny)) == own
    assert served is not tiny
    if remedy == "none":
        np.testing.assert_array_equal(served.encode(DOCUMENTS), tiny.encode(DOCUMENTS))
    served.double()
    served.max_seq_length = 32
    served.prompts["query"] = "other: "
    assert next(tiny.parameters()).dtype == torch.float32
    assert (tiny.max_seq_length, tiny.prompts["query"]) == (64, "ba: ")
    unchanged(tiny, before)


@pytest.mark.parametrize("postprocessor", [Centring(), Projection(), AllButTheTop(2), Whitening(3)], ids=str)
def test_plain_encode_leaves_a_step_on_vectors_out(read, postprocessor):
    model, queries, documents = read
    remedy = Remedy(vectors=postprocessor)
    served = apply(model, remedy, queries=queries, documents=documents)
    np.testing.assert_array_equal(served.encode(documents), model.encode(documents))
    vectors = {
        side: whole(model, texts, prompt_of(model, side))
        for side, texts in (("query", queries), ("document", documents))
    }
    sides = PerSide(postprocessor).fit(queries=vectors["query"], documents=vectors["document"])
    is_close(served.encode_query(queries), sides.transform(vectors["query"], "query"), 1e-4)
    is_close(served.encode_document(documents), sides.transform(vectors["document"], "document"), 1e-4)
    if isinstance(postprocessor, Whitening):
        assert served.encode_query(queries).shape == (len(queries), 3)


@pytest.mark.parametrize("remedy", ["project", "pieces(16)", "temperature(0.5, side=document)+pieces(16)+project"])
def test_what_a_model_is_set_to_is_kept(tiny, remedy, tmp_path):
    model = copy.deepcopy(tiny)
    model.truncate_dim, model.similarity_fn_name, model.default_prompt_name = 20, "dot", "document"
    model.max_seq_length = 48
    texts = {"queries": QUERIES, "documents": DOCUMENTS} if "project" in remedy else {}
    served = apply(model, remedy, **texts)
    served.save_pretrained(str(tmp_path / "served"))
    loaded = SentenceTransformer(str(tmp_path / "served"), trust_remote_code=True, device="cpu")
    expected = {}
    for side, given in (("query", QUERIES), ("document", DOCUMENTS)):
        with patch(model, 0.5 if "temperature" in remedy and side == "document" else 1.0):
            embed = in_pieces if "pieces" in remedy else (lambda *given: whole(*given[:3]))
            expected[side] = embed(model, given, PROMPTS[side], Pieces(16))
        assert expected[side].shape[1] == 20
        if "project" in remedy:
            expected[side] = projected(expected[side], normalised=False)
    for one in (served, loaded):
        is_close(one.encode_query(QUERIES), expected["query"], 5e-6)
        is_close(one.encode_document(DOCUMENTS), expected["document"], 5e-6)
        assert (one.similarity_fn_name, one.default_prompt_name, one.max_seq_length) == ("dot", "document", 48)
        assert one.prompts == model.prompts
        dimension = getattr(one, "get_embedding_dimension", None) or one.get_sentence_embedding_dimension
        assert dimension() == 20
    assert served.truncate_dim == 20
    np.testing.assert_array_equal(served.encode(QUERIES[0]).shape, (20,))


@pytest.mark.parametrize("remedy", ["project", "pieces(16)", "temperature(0.5, side=document)+pieces(16)+project"])
def test_half_precision(tiny, remedy):
    model = copy.deepcopy(tiny).to(torch.bfloat16)
    texts = {"queries": QUERIES, "documents": DOCUMENTS} if "project" in remedy else {}
    served = apply(model, remedy, **texts)
    assert {tensor.dtype for tensor in served.parameters()} == {torch.bfloat16}
    exact = apply(tiny, remedy, **texts)
    for name in ("encode", "encode_query", "encode_document"):
        found, expected = getattr(served, name)(DOCUMENTS), getattr(exact, name)(DOCUMENTS)
        assert (unit(found) * unit(expected)).sum(1).min() > 0.98


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("remedy", ["pieces(16)", "pieces(16, late=True)"])
def test_batches_make_no_difference(tiny, remedy, batch_size, monkeypatch):
    served = apply(tiny, remedy)
    expected = served.encode_document(DOCUMENTS)
    monkeypatch.setattr(cutting, "AT_ONCE", 16)
    read = []
    forward = type(served[0].model).forward
    monkeypatch.setattr(
        type(served[0].model),
        "forward",
        lambda self, features, **options: (read.append(features), forward(self, features, **options))[1],
    )
    is_close(served.encode_document(DOCUMENTS, batch_size=batch_size), expected)
    batches = [features["input_ids"] for features in read if "input_ids" in features and "pieces" not in features]
    assert max(map(len, batches), default=0) <= batch_size, "memory is bounded"


def test_ways_to_call_encode(tiny):
    served = apply(tiny, "pieces(16)+project", queries=QUERIES, documents=DOCUMENTS)
    expected = served.encode_document(DOCUMENTS)
    is_close(served.encode_document(DOCUMENTS[4]), expected[4])
    is_close(served.encode_document(DOCUMENTS, convert_to_tensor=True).numpy(), expected)
    is_close(served.encode_document(DOCUMENTS, normalize_embeddings=True), unit(expected))
    is_close(served.encode(DOCUMENTS, task="document", prompt_name="document"), expected)
    is_close(pickle.loads(pickle.dumps(served)).encode_document(DOCUMENTS), expected)
    is_close(copy.deepcopy(served).encode_document(DOCUMENTS), expected)
    assert len(served.encode_document([])) == 0
    assert served.encode_document(DOCUMENTS, output_value=None)[3]["sentence_embedding"].shape == (32,)
    assert served.similarity(expected[:2], expected).shape == (2, 13)
    assert "InPieces(\n    tokens=16, overlap=0, late=False" in repr(served)
    with pytest.raises(ValueError, match="only text is read in pieces, not tuple: pass strings"):
        served.encode([("one", "two")])
    with pytest.raises(ValueError, match="pieces have 16 tokens: expected a max_seq_length of at least that, not 8"):
        served.max_seq_length = 8


def test_several_processes(tiny):
    served = apply(tiny, "pieces(16)+project", queries=QUERIES, documents=DOCUMENTS)
    found = served.encode_document(DOCUMENTS, device=["cpu", "cpu"], chunk_size=7)
    is_close(found, served.encode_document(DOCUMENTS))


def test_prompts_stand_before_every_piece(tiny):
    served = apply(tiny, "pieces(16)")
    expected = in_pieces(tiny, DOCUMENTS, "ba: ", Pieces(16))
    is_close(served.encode(DOCUMENTS, prompt_name="query"), expected)
    is_close(served.encode(DOCUMENTS, prompt="ba: "), expected)
    # Pooling may leave the prompt out.
    without = copy.deepcopy(tiny)
    without.set_pooling_include_prompt(False)
    is_close(apply(without, "pieces(16)").encode_query(DOCUMENTS), in_pieces(without, DOCUMENTS, "ba: ", Pieces(16)))
    is_close(
        apply(without, "pieces(16, late=True)").encode_query(DOCUMENTS),
        late(without, DOCUMENTS, "ba: ", Pieces(16, late=True)),
    )
    assert np.abs(whole(without, DOCUMENTS, "ba: ") - whole(tiny, DOCUMENTS, "ba: ")).max() > 1e-2
    if SIX:
        is_close(served.encode(DOCUMENTS, prompt="bi: "), in_pieces(tiny, DOCUMENTS, "bi: ", Pieces(16)))
    else:
        with pytest.raises(
            ValueError, match=r"the model's own prompts only \('ba: ', 'be: '\): choose one by prompt_name"
        ):
            served.encode(DOCUMENTS, prompt="bi: ")


def test_models_without_a_transformer_and_folded_ones(tiny):
    folded = tempscale.fold(copy.deepcopy(tiny), 0.5)
    vectors = projected(whole(folded, DOCUMENTS, "be: "), normalised=False)
    is_close(apply(folded, "project", queries=QUERIES, documents=DOCUMENTS).encode_document(DOCUMENTS), vectors)
    try:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    except ModuleNotFoundError:
        from sentence_transformers.models import StaticEmbedding
    static = SentenceTransformer(
        modules=[StaticEmbedding(tiny.tokenizer.backend_tokenizer, embedding_dim=8)], device="cpu"
    )
    texts = DOCUMENTS[:-1]  # the embedding of no token is zero
    served = apply(static, "project", queries=QUERIES, documents=texts)
    is_close(served.encode_document(texts), projected(whole(static, texts, ""), normalised=False))


def test_the_model_card_says_what_was_done(tiny, tmp_path):
    model = copy.deepcopy(tiny)
    model._model_card_text = "---\ntags:\n- mine\n---\n\n# A card"
    remedy = "temperature(0.5, layers=last:1, side=query)+pieces(16)+project"
    apply(model, remedy, queries=QUERIES, documents=DOCUMENTS).save_pretrained(str(tmp_path / "served"))
    card = (tmp_path / "served" / "README.md").read_text()
    assert card.startswith(model._model_card_text)
    for sentence in (
        f"`tempscale.apply` put the remedy `{remedy}` into this model.",
        'SentenceTransformer("...", trust_remote_code=True)',
        "Use `encode_query` for queries and `encode_document` for documents.",
        "The attention logits of layers last:1 are divided by 0.5 for queries (TempScale, arXiv:2410.24200).",
        "`encode`, for texts without a side, has no temperature.",
        "Texts of more than 16 tokens are read in pieces, which are averaged.",
        "`project` was fitted on 12 queries and 13 documents, for each side by itself.",
        "do not compare its vectors with those of the other two",
    ):
        assert sentence in card
    apply(model, "temperature(0.5)").save_pretrained(str(tmp_path / "served"))
    card = (tmp_path / "served" / "README.md").read_text()
    assert "all layers are divided by 0.5 for all texts" in card
    assert "trust_remote_code" not in card
    assert apply(model, "none")._model_card_text == model._model_card_text
    model._model_card_text = None
    assert apply(model, "pieces(16)")._model_card_text.startswith(
        "---\ntags:\n- sentence-transformers\n---\n\n# Model\n\n## "
    )


def test_applications_that_call_encode_name_the_side(tiny):
    served = apply(tiny, "project", queries=QUERIES, documents=DOCUMENTS)

    class LangChain:  # langchain_huggingface 1.2: HuggingFaceEmbeddings
        encode_kwargs = {"task": "document", "prompt_name": "document"}  # noqa: RUF012
        query_encode_kwargs = {"task": "query", "prompt_name": "query"}  # noqa: RUF012

        def embed_documents(self, texts):
            return served.encode(
                [text.replace("\n", " ") for text in texts], show_progress_bar=False, **self.encode_kwargs
            )

        def embed_query(self, text):
            return served.encode([text], show_progress_bar=False, **self.query_encode_kwargs)[0]

    is_close(LangChain().embed_documents(DOCUMENTS), served.encode_document(DOCUMENTS))
    is_close(LangChain().embed_query(QUERIES[0]), served.encode_query(QUERIES)[0])


GIVEN = {"queries": QUERIES, "documents": DOCUMENTS}


@pytest.mark.parametrize(
    ("remedy", "texts", "message"),
    [
        ("project", {}, r"project is fitted on texts of both sides: give at least 2 queries and 2 .*, not 0 and 0"),
        ("project", {"queries": QUERIES}, "which need no labels, not 12 and 0"),
        ("project", {**GIVEN, "queries": ["one"]}, "not 1 and 13"),
        ("project", {**GIVEN, "queries": "one text"}, "queries must be a list of texts, not one text: 'one text'"),
        (
            "pieces(16)",
            {"documents": DOCUMENTS},
            r"pieces\(16\) is fitted on no texts: leave out documents, or add a step such",
        ),
        ("none", GIVEN, "none is fitted on no texts: leave out queries, or add"),
        (
            "pieces(16, pool=max)",
            {},
            r"pieces\(16, pool=max\) keeps several vectors of a document, and a model gives one: take pool",
        ),
        ("pieces(16, pool=mean+max)+project", GIVEN, "keeps several vectors of a document"),
        ("pieces(65)", {}, "has more than the 64 tokens that the model reads"),
        ("whiten(30)", GIVEN, "are to be whitened: fit on more texts, or keep at most"),
        (
            Remedy(temperature=LogLength(16)),
            {},
            r"LogLength\(.* depends on the length of the text, which weights cannot know",
        ),
        (Remedy(temperature=LogLength(16), layers="last:1"), {}, "depends on the length of the text"),
        ("temperature(0.5, layers=last:9)", {}, "unknown layer 'last:9'"),
        ("squeeze", {}, "'squeeze' is no remedy: expected such as"),
    ],
)
def test_refusals(tiny, remedy, texts, message):
    before = state(tiny)
    with pytest.raises(ValueError, match=message):
        apply(tiny, remedy, **texts)
    unchanged(tiny, before)


def test_models_that_are_refused(tiny):
    with pytest.raises(TypeError, match="expected a SentenceTransformer, not str: load the model with load_model"):
        apply("minilm", "pieces(16)")
    with patch(tiny, 0.5):
        with pytest.raises(
            ValueError, match=r"BertModel is patched, and so would be its copy: `.remove\(\)` the patch"
        ):
            apply(tiny, "pieces(16)")
        with pytest.raises(ValueError, match="BertModel is patched already"):
            apply(tiny, "temperature(0.9)")
    folded = tempscale.fold(copy.deepcopy(tiny), 0.5)
    with pytest.raises(ValueError, match=r"has the temperature 0\.5 folded into its weights: load the original model"):
        apply(folded, "temperature(0.9)")
    for remedy, name in (("project", "Router"), ("pieces(16)", "InPieces")):
        served = apply(tiny, remedy, **(GIVEN if remedy == "project" else {}))
        with pytest.raises(
            ValueError, match=f"has a module {name} already, and centre needs one that reads all texts alike"
        ):
            apply(served, "centre", **GIVEN)
    exported = copy.deepcopy(tiny)
    exported.backend = "onnx"
    with pytest.raises(
        ValueError, match=r"the backend 'onnx' .*: load the model without it, and export what apply returns"
    ):
        apply(exported, "project", **GIVEN)
    other = copy.deepcopy(tiny)
    other[0].__class__ = type("Mine", (type(tiny[0]),), {"__module__": "mine"})
    with pytest.raises(
        ValueError, match=r"a temperature on one side needs a first module of sentence-transformers .* Mine is not"
    ):
        apply(other, "temperature(0.5, side=query)")


@pytest.mark.parametrize("label", ["pieces(16, pool=max)", "pieces(20, overlap=6)", "pieces(16, overlap=4, late=True)"])
def test_the_vectors_of_pieces(tiny, label):
    before = state(tiny)
    pieces = tempscale.read_remedy(label).pieces
    vectors, owner = piece_vectors(tiny, label, DOCUMENTS)
    assert vectors.dtype == np.float32
    assert (np.diff(owner) >= 0).all()
    assert set(owner) == set(range(len(DOCUMENTS)))
    means = np.array([unit(unit(vectors[owner == k]).mean(0)) for k in range(len(DOCUMENTS))])
    embed = late if pieces.late else in_pieces
    is_close(means, unit(embed(tiny, DOCUMENTS, "be: ", pieces)))
    unchanged(tiny, before)


def test_the_vectors_of_pieces_are_the_pieces(tiny):
    cut = cut_texts(tiny, DOCUMENTS, count_tokens(tiny, DOCUMENTS, "be: "), 16, prompt="be: ")
    vectors, owner = piece_vectors(tiny, "pieces(16, pool=max)", DOCUMENTS)
    is_close(vectors, whole(tiny, cut.texts, "be: "))
    assert np.bincount(owner).tolist() == cut.numbers
    for temperature in (0.5, LogLength(8)):
        tempered, _ = piece_vectors(tiny, Remedy(temperature=temperature, pieces=Pieces(16, pool="max")), DOCUMENTS)
        with patch(tiny, temperature):
            is_close(tempered, whole(tiny, cut.texts, "be: "), 5e-6)
        assert np.abs(tempered - vectors).max() > 1e-2
    same, _ = piece_vectors(tiny, "temperature(0.5, side=query)+pieces(16, pool=max)", DOCUMENTS)
    np.testing.assert_array_equal(same, vectors)
    sides = PerSide(Projection()).fit(queries=vectors[:9], documents=vectors)
    found, _ = piece_vectors(tiny, "pieces(16, pool=max)+project", DOCUMENTS, sides=sides)
    is_close(found, projected(vectors.astype(np.float64), normalised=False))
    vectors, owner = piece_vectors(tiny, "pieces(16)", [])
    assert (vectors.shape, owner.shape) == ((0, 32), (0,))


def test_refusals_of_the_vectors_of_pieces(tiny):
    sides = PerSide(Projection()).fit(documents=np.eye(3))
    for remedy, given, message in (
        ("project", {"sides": sides}, r"project reads texts whole: expected a remedy such as pieces\(128, pool=max\)"),
        (
            "pieces(16)+project",
            {},
            "has a step on vectors: give `sides`, fitted on embeddings of queries and documents",
        ),
        ("pieces(16)", {"sides": sides}, "has no step on vectors: leave out `sides`"),
        ("pieces(65)", {}, "has more than the 64 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            piece_vectors(tiny, remedy, DOCUMENTS, **given)
