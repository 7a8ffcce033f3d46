"""The prompts that a model's authors prescribe, also for a local copy that has lost its name.

The facts are those of mteb's own registry of models (the loader's `model_prompts`), so nothing is kept here twice, with
one addition. The authors of E5 ask for "query: " before every text of a symmetric task, and before texts whose embeddings
serve as features (their model cards, FAQ 1); mteb gives a prompt to queries and documents only.
"""

import functools
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

E5 = {"query": "query: ", "document": "passage: "}
SYMMETRIC = (
    "BitextMining",
    "Classification",
    "Clustering",
    "MultilabelClassification",
    "PairClassification",
    "Regression",
    "STS",
    "Summarization",
)

# Families whose models want a prompt; GTR, GTE, GIST and ANCE want none.
_FAMILY = re.compile(r"(?:^|[^a-z])(e5|bge)(?:[^a-z]|$)", re.IGNORECASE)
_OWN_CONFIG = "config_sentence_transformers.json"


def prompts_for(model: str) -> dict[str, str] | None:
    """Return the prompts that a model should get in addition to what it brings along.

    A hub id is looked up in mteb's registry. A local folder is recognised by the first of these that the registry knows,
    owner and case aside:

    1. the name in its model card (README.md, `model-index`), its place in the hub's cache (`models--OWNER--NAME`), or the
       folder's name ("e5-base-v2", "intfloat_e5-base-v2"): it *is* that model. Where they disagree the first counts, with
       a warning;
    2. the model it was made from, in the card's `base_model` or config.json's `_name_or_path`: it gets that model's
       prompts, with a warning, because a fine-tuned model may have been trained on others.

    Args:
        model: a hub id or a local folder.

    Returns:
        Prompts by mteb's keys: "query" and "document", and a task's or a task type's name where the authors make a
        difference. None where there is nothing to add: the authors want none, the folder has prompts of its own
        (config_sentence_transformers.json), or nobody knows the model.

    Warns:
        UserWarning: what was found contradicts itself or is only an origin; the name is that of a family with prompts but
            of no known model; or mteb loads the model in a way that prompts alone do not reproduce.

    >>> prompts_for("BAAI/bge-base-en-v1.5")["query"]
    'Represent this sentence for searching relevant passages: '
    >>> prompts_for("intfloat/e5-base-v2")["document"], prompts_for("sentence-transformers/gtr-t5-base")
    ('passage: ', None)
    """
    folder = Path(model)
    if not folder.is_dir():
        known = _registered(model)
        if known is None:
            _warn_of_family(model)
            return None
        return _prompts(known)
    if any(_read(folder / _OWN_CONFIG).get("prompts", {}).values()):
        return None
    named = {source: found for source, name in _names(folder) if (found := _registered(name))}
    if named:
        return _prompts(_first(model, named))
    for origin in _origins(folder):
        known = _registered(origin)
        if known:
            prompts = _prompts(known)
            if prompts:
                warnings.warn(
                    f"{model} was made from {known.name} and gets its prompts {prompts['query']!r} and "
                    f"{prompts.get('document', '')!r}; if it was trained on others, put those under 'prompts' in its "
                    f"{_OWN_CONFIG}",
                    stacklevel=2,
                )
            return prompts
    _warn_of_family(model)
    return None


def _first(model: str, named: dict[str, Any]) -> Any:
    """Return the first of the models that a folder seems to be; warn if they want different prompts."""
    (source, known), *others = named.items()
    for other_source, other in others:
        if _prompts(other) != _prompts(known):
            warnings.warn(
                f"{model} is {known.name} by {source} but {other.name} by {other_source}, with other prompts: those of "
                f"{known.name} are used; if that is wrong, put the right ones under 'prompts' in its {_OWN_CONFIG}",
                stacklevel=3,
            )
    return known


def _warn_of_family(model: str) -> None:
    family = _FAMILY.search(Path(model).name)
    if family:
        warnings.warn(
            f"{model} looks like {family[1].upper()}, whose models need prompts, but is none that mteb knows: it gets none; "
            f"give it the name of the model, or put its prompts under 'prompts' in its {_OWN_CONFIG}",
            stacklevel=3,
        )


@functools.cache
def _registry() -> dict[str, Any]:
    """Return mteb's models by name without owner, in lower case: no two share one."""
    import mteb

    return {meta.name.rpartition("/")[2].lower(): meta for meta in mteb.get_model_metas()}


def _registered(name: str) -> Any | None:
    """Return what mteb knows of a model, or None."""
    short = name.rpartition("/")[2].lower()
    # A folder is often named after owner and model together.
    candidates = [short, *(short.split(separator, 1)[-1] for separator in ("--", "__", "_"))]
    return next((_registry()[one] for one in candidates if one in _registry()), None)


def _prompts(known: Any) -> dict[str, str] | None:
    prompts = dict(known.loader_kwargs.get("model_prompts") or {})
    loader = getattr(known.loader, "__name__", "another program")
    if not prompts and loader != "SentenceTransformerEncoderWrapper":
        warnings.warn(
            f"mteb runs {known.name} with {loader}, which may put instructions before texts; here it gets none, and its "
            "scores may be lower than the published ones",
            stacklevel=3,
        )
    if prompts == E5:
        prompts |= dict.fromkeys(SYMMETRIC, E5["query"])
    return prompts or None


def _names(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what a folder says that it is, the surest first, with where it says so."""
    for entry in _card(folder).get("model-index") or []:
        yield "its model card", str(entry.get("name", ""))
    for part in folder.absolute().parts:
        if part.startswith("models--"):
            yield "its place in the cache", part.removeprefix("models--").replace("--", "/")
    yield "its folder's name", folder.absolute().name


def _origins(folder: Path) -> Iterator[str]:
    """Yield the models that a folder says it was made from."""
    base = _card(folder).get("base_model") or []
    yield from [base] if isinstance(base, str) else map(str, base)
    yield str(_read(folder / "config.json").get("_name_or_path", ""))


def _card(folder: Path) -> dict[str, Any]:
    """Return the metadata of a model card, or nothing: a card is written by people."""
    import yaml

    try:
        text = (folder / "README.md").read_text("utf-8")
        found = yaml.safe_load(text.split("---\n", 2)[1]) if text.startswith("---\n") else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(file: Path) -> dict[str, Any]:
    """Return a JSON object, or nothing where there is none."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text("utf-8"))
    return found if isinstance(found, dict) else {}
