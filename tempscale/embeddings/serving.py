"""A remedy put into a model, which is then saved, loaded and served like any other."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tempscale.embeddings.postprocess import Postprocessor
from tempscale.embeddings.remedies import Remedy, as_remedy
from tempscale.embeddings.sides import PerSide, as_array, has_unit_norm
from tempscale.encoding.cutting import InPieces
from tempscale.encoding.pieces import check_pieces
from tempscale.encoding.reading import Pieces
from tempscale.patching.exchange import Tempered
from tempscale.patching.fold import fold
from tempscale.patching.patch import patch, unpatched
from tempscale.patching.proof import find_sites
from tempscale.patching.schedules import PerLayer, per_layer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Modules by which a model treats queries and documents differently, or reads in pieces.
_OWN_WAYS = ("InPieces", "Router")
_AT_ONCE = 32  # documents

_CARD = """

## Against length collapse

`tempscale.apply` put the remedy `{remedy}` into this model.{trust}

- Use `encode_query` for queries and `encode_document` for documents.
{points}
"""
_TRUST = """ It comes with a file of Python code, `cutting.py`; load it with

```python
SentenceTransformer("...", trust_remote_code=True)
```"""


def apply(
    model: "SentenceTransformer",
    remedy: Remedy | str,
    *,
    queries: Sequence[str] | None = None,
    documents: Sequence[str] | None = None,
) -> "SentenceTransformer":
    """Return a model with a remedy in it: an ordinary SentenceTransformer, which needs no tempscale where it is served.

    Encode with its `encode_query` and `encode_document`, which carry the whole remedy. `encode`, for texts without a side,
    carries only what is the same for both sides: pieces, and a temperature on both. So its vectors cannot be compared with
    those of the other two. The model card says so, too.

    The steps become:

    - a temperature: weights, by `fold`. For one side only the transformer is there twice, behind a Router;
    - pieces: a module of its own, with its code in one file beside the saved model, which is therefore loaded with
      `trust_remote_code=True`. At a time it reads as many pieces as a batch has texts, or 8192 tokens of them;
    - a step on vectors: a Dense layer for each side, behind a Router, and a Normalize if embeddings have length one.

    Args:
        model: model without a remedy; it is left as it was. The new one shares all its weights in memory that the remedy
            does not change; saved, it is whole.
        remedy: a `Remedy`, or its label such as "pieces(128)+project".
        queries, documents: texts that a step on vectors is fitted on, at least 2 of each, as many as are at hand; without
            labels, and not for any other step.

    Returns:
        The new model, on the same device and in the same dtype, with the same prompts and similarity.

    Raises:
        ValueError: texts that are missing or not needed; a remedy that one vector for each text cannot hold (see
            `piece_vectors`); pieces that the model cannot read; a temperature by length, which weights cannot hold; a model
            that is patched, or folded where the remedy has a temperature, or that has routes or pieces already.
        UnsupportedModelError: as `fold`.
        TypeError: not a SentenceTransformer.

    >>> from tempscale import load_model
    >>> queries, documents = ["What is a mean?", "What is a sum?"], ["A mean is a sum, divided.", "A sum is a total."]
    >>> model = apply(load_model("minilm"), "pieces(64)+project", queries=queries, documents=documents)
    >>> model.encode_document(["A long text. " * 100]).shape
    (1, 384)

    `model.save_pretrained("served")` writes it.
    """
    wanted = as_remedy(remedy)
    _check_model(model, wanted)
    texts = _checked_texts(wanted, queries=queries, documents=documents)
    if wanted.pieces:
        if wanted.pieces.pool != "mean":
            raise ValueError(
                f"{wanted.pieces} keeps several vectors of a document, and a model gives one: take pool=mean, or "
                "`piece_vectors` for an index"
            )
        check_pieces(model, wanted.pieces, {"", *model.prompts.values()})
    made = _copied(model) if wanted.is_plain else _tempered(model, wanted)
    if wanted.pieces:
        made = _in_pieces(made, wanted.pieces)
    if wanted.vectors:
        _append(made, wanted.vectors, *texts)
    if wanted != Remedy():
        _write_card(made, wanted, *map(len, texts))
    return made


def piece_vectors(
    model: "SentenceTransformer", remedy: Remedy | str, documents: Sequence[str], *, sides: PerSide | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the vectors of all pieces of documents, for an index in which a document is as near as its best piece.

    Queries have one vector each: that of `apply` with the same remedy, but pool "mean".

    Args:
        model: model without a remedy; it is left as it was.
        remedy: a remedy with pieces, or its label such as "pieces(128, pool=max)"; any temperature is possible.
        documents: texts, read with the model's prompt for documents.
        sides: fitted postprocessors, if the remedy has a step on vectors; queries are mapped by its `transform`, too.

    Returns:
        The vectors (m, d), and for each the index of its document (m,), in order.

    Raises:
        ValueError: a remedy without pieces, or one whose step on vectors and `sides` do not go together; pieces that the
            model cannot read; a model that is patched, or that has routes or pieces already.
        UnsupportedModelError: as `patch`.

    >>> from tempscale import load_model
    >>> model = load_model("minilm")
    >>> documents = ["Cats sleep all day. " * 9 + "The capital of France is Paris.", "Rome is the capital of Italy."]
    >>> vectors, owner = piece_vectors(model, "pieces(16, pool=max)", documents)
    >>> scores = model.encode_query(["Which city is France governed from?"]) @ vectors.T
    >>> int(owner[scores.argmax()])
    0
    """
    wanted = as_remedy(remedy)
    _check_model(model, wanted)
    if wanted.pieces is None:
        raise ValueError(f"{wanted} reads texts whole: expected a remedy such as pieces(128, pool=max)")
    if (wanted.vectors is None) != (sides is None):
        raise ValueError(
            f"{wanted} has a step on vectors: give `sides`, fitted on embeddings of queries and documents"
            if wanted.vectors
            else f"{wanted} has no step on vectors: leave out `sides`"
        )
    check_pieces(model, wanted.pieces, {"", *model.prompts.values()})
    made = _copied(model).eval()
    reader = _reader(made, wanted.pieces)
    names = [name for name in ("document", "passage", "corpus", model.default_prompt_name) if name in model.prompts]
    prompt = model.prompts[names[0]] if names else ""
    found, numbers = [np.zeros((0, reader.get_embedding_dimension() or 0), dtype=np.float32)], []
    tempered = not wanted.is_plain and wanted.side != "query"
    with patch(made, wanted.temperature, layers=wanted.layers) if tempered else nullcontext(), torch.inference_mode():
        for start in range(0, len(documents), _AT_ONCE):
            features = reader.preprocess(documents[start : start + _AT_ONCE], prompt, task="document")
            vectors, counts = reader.vectors(features, task="document")
            found.append(vectors.float().cpu().numpy())
            numbers += counts
    pieces = np.concatenate(found)
    if sides is not None and len(pieces):
        pieces = sides.transform(pieces, "document").astype(np.float32)
    return pieces, np.repeat(np.arange(len(numbers)), numbers)


def _check_model(model: Any, remedy: Remedy) -> None:
    """Raise TypeError or ValueError for a model that cannot get the remedy."""
    from sentence_transformers import SentenceTransformer

    if not isinstance(model, SentenceTransformer):
        raise TypeError(f"expected a SentenceTransformer, not {type(model).__name__}: load the model with load_model")
    if model.get_backend() != "torch":
        raise ValueError(
            f"the weights of a model of the backend {model.get_backend()!r} are not torch's: load the model without it, and "
            "export what apply returns"
        )
    if not remedy.is_plain:
        unpatched(model)
    for module in model.modules():
        name = type(module).__name__
        if isinstance(module, Tempered):
            raise ValueError(f"{name} is patched, and so would be its copy: `.remove()` the patch first")
        if name in _OWN_WAYS and remedy != Remedy():
            raise ValueError(
                f"the model has a module {name} already, and {remedy} needs one that reads all texts alike: take the model "
                "without it, and all steps of a remedy at once, such as pieces(128)+project"
            )


def _checked_texts(remedy: Remedy, **given: Sequence[str] | None) -> tuple[list[str], ...]:
    """Return the texts of each side, or raise ValueError if a step on vectors lacks them, or they are for no step."""
    for name, texts in given.items():
        if isinstance(texts, str):
            raise ValueError(f"{name} must be a list of texts, not one text: {texts[:40]!r}")
        if remedy.vectors is None and texts is not None:
            raise ValueError(f"{remedy} is fitted on no texts: leave out {name}, or add a step such as project")
    queries, documents = (list(() if texts is None else texts) for texts in given.values())
    if remedy.vectors is not None and min(len(queries), len(documents)) < 2:
        raise ValueError(
            f"{remedy.vectors} is fitted on texts of both sides: give at least 2 queries and 2 documents, which need no "
            f"labels, not {len(queries)} and {len(documents)}"
        )
    return queries, documents


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


def _copied(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a copy with tensors of its own that lie in the same memory, so that moving one leaves the other."""
    return copy.deepcopy(model, {id(tensor): copy.copy(tensor) for _, tensor in _tensors(model)})


def _tempered(model: "SentenceTransformer", remedy: Remedy) -> "SentenceTransformer":
    """Return a copy with the temperature in its weights, or in those of one side."""
    folded = copy.deepcopy(model)
    transformer, temperature = unpatched(folded), remedy.temperature
    if remedy.labels()[1] != "all":
        sites, n_layers = find_sites(transformer, "uniform", remedy.layers)
        each = per_layer(temperature, n_layers)
        temperature = PerLayer({site.layer: each[site.layer] for site in sites})
    fold(transformer, temperature)
    original = dict(_tensors(model))
    for name, tensor in _tensors(folded):
        if torch.equal(tensor, original[name]):
            tensor.data = original[name].data
    if remedy.side == "both":
        return folded
    if transformer not in set(folded[0].modules()) or not type(folded[0]).__module__.startswith(
        "sentence_transformers."
    ):
        raise ValueError(
            f"a temperature on one side needs a first module of sentence-transformers that has the transformer, which "
            f"{type(folded[0]).__name__} is not: put it on both sides"
        )
    made = _copied(model)
    first = {name: [folded[0] if name == remedy.side else made[0]] for name in ("query", "document", "plain")}
    made[0] = _modules().Router(first, default_route="plain").train(model.training)
    return made


def _reader(model: "SentenceTransformer", pieces: Pieces) -> InPieces:
    return InPieces(model, pieces.tokens, pieces.overlap, pieces.late, model.truncate_dim)


def _in_pieces(model: "SentenceTransformer", pieces: Pieces) -> "SentenceTransformer":
    """Return a model around another, which reads the pieces."""
    from sentence_transformers import SentenceTransformer

    made = SentenceTransformer(
        modules=[_reader(model, pieces)],
        device=str(model.device),
        prompts=dict(model.prompts),
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim,
    )
    made._model_card_text = model._model_card_text
    return made.train(model.training)


def _append(model: "SentenceTransformer", step: Postprocessor, queries: list[str], documents: list[str]) -> None:
    """Fit a step on the embeddings of each side, and put it behind the model."""
    kept, model.truncate_dim = model.truncate_dim, None
    found = {
        "queries": model.encode_query(queries, convert_to_tensor=True),
        "documents": model.encode_document(documents, convert_to_tensor=True),
    }
    model.truncate_dim = kept
    read = {name: as_array(embeddings[:, :kept]) for name, embeddings in found.items()}
    sides = PerSide(step).fit(**read)
    last = [_modules().Normalize()] if all(map(has_unit_norm, read.values())) else []
    width = found["queries"].shape[1]
    routes = {side: [_dense(sides.fitted[side], width), *last] for side in ("query", "document")}
    # A text without a side keeps its vector.
    router = _modules().Router({**routes, "plain": []}, default_route="plain")
    model.append(router.to(found["queries"]).train(model.training))


def _dense(fitted: Postprocessor, width: int) -> Any:
    """Return a fitted map as a Dense layer that reads the first of more dimensions, where embeddings are truncated."""
    dense: Any = fitted.module()
    weight = dense.linear.weight.detach()
    dense.linear.weight = nn.Parameter(nn.functional.pad(weight, (0, width - weight.shape[1])))
    dense.in_features = dense.linear.in_features = width
    return dense


def _write_card(model: Any, remedy: Remedy, queries: int, documents: int) -> None:
    """Add the remedy to the model card that is written when the model is saved."""
    points = []
    if not remedy.is_plain:
        temperature, layers, side = remedy.labels()
        where = "all layers" if layers == "all" else f"layers {layers}"
        who = "all texts" if side == "both" else "queries" if side == "query" else "documents"
        points.append(
            f"The attention logits of {where} are divided by {temperature} for {who} (TempScale, arXiv:2410.24200)."
        )
        if side != "both":
            points.append("So the transformer is there twice. `encode`, for texts without a side, has no temperature.")
    if remedy.pieces:
        points.append(f"Texts of more than {remedy.pieces.tokens} tokens are read in pieces, which are averaged.")
    if remedy.vectors:
        points.append(
            f"`{remedy.vectors}` was fitted on {queries} queries and {documents} documents, for each side by itself. "
            "`encode`, for texts without a side, leaves it out: do not compare its vectors with those of the other two."
        )
    card = model._model_card_text or "---\ntags:\n- sentence-transformers\n---\n\n# Model"
    model._model_card_text = card + _CARD.format(
        remedy=remedy, trust=_TRUST if remedy.pieces else "", points="\n".join(f"- {point}" for point in points)
    )


def _modules() -> Any:
    """Return where sentence-transformers keeps its modules, which are elsewhere since version 6."""
    try:
        from sentence_transformers.sentence_transformer import modules
    except ModuleNotFoundError:
        from sentence_transformers import models as modules
    return modules
