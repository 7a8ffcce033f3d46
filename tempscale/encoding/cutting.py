"""What a model that reads long texts in pieces needs, in one file that imports nothing else of tempscale.

A saved model has a copy of this file beside it: with `trust_remote_code=True` sentence-transformers runs that copy, and
tempscale need not be installed.
"""

import json
import math
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

Features = dict[str, Any]

# Pieces are read so many tokens at once, or as many pieces as the batch has texts, whichever is more.
AT_ONCE = 8192

_FOLDER, _CONFIG = "in_pieces", "pieces.json"


def features_of(
    model: Any, texts: Sequence[str], prompt: str = "", options: Mapping[str, Any] | None = None
) -> Features:
    """Return the tokens of a batch, as `SentenceTransformer.encode` makes them.

    Args:
        model: model of sentence-transformers 5, which has no `preprocess`, or 6, which has given up `tokenize`.
        texts: texts of the batch, without the prompt.
        prompt: prompt put in front of each; pooling leaves it out again where the model says so.
        options: options such as the side, for models that treat queries and documents differently.
    """
    options = options or {}
    if hasattr(model, "preprocess"):
        return dict(model.preprocess(list(texts), prompt=prompt or None, **options))
    features = dict(model.tokenize([prompt + text for text in texts], **options))
    length = model._get_prompt_length(prompt) if prompt else None
    return features if length is None else {**features, "prompt_length": length}


def as_read(model: Any, texts: Sequence[str], prompt: str = "") -> list[str]:
    """Return texts as a model hands them to its tokenizer; sentence-transformers 5 takes outer white space away."""
    return [prompt + text if hasattr(model, "preprocess") else (prompt + text).strip() for text in texts]


def count_tokens(model: Any, texts: Sequence[str], prompt: str = "") -> list[int]:
    """Return the tokens of each text before it is cut, with the prompt and special tokens.

    >>> from tempscale import load_model
    >>> count_tokens(load_model("minilm"), ["a short text", ""])
    [5, 2]
    """
    counts: list[int] = []
    for start in range(0, len(texts), 1024):
        some = as_read(model, texts[start : start + 1024], prompt)
        counts += map(len, model.tokenizer(some, truncation=False, verbose=False)["input_ids"])
    return counts


class Cut(NamedTuple):
    """The pieces of all texts, one after the other, the tokens of each, and how many pieces each text has."""

    texts: list[str]
    tokens: list[int]
    numbers: list[int]


def cut_texts(
    model: Any, texts: Sequence[str], tokens: Sequence[int], most: int, overlap: int = 0, prompt: str = ""
) -> Cut:
    """Cut every text that is longer than a piece.

    Consecutive pieces, which together are the text, but for white space where it was cut. Cuts are between words where
    that is possible, else between tokens. The pieces of a text are about equally long, so that no short rest counts as
    much as a full piece. With an overlap, each begins with the end of the one before it.

    Args:
        model: model whose tokens are counted; with a fast tokenizer.
        texts: texts without the prompt.
        tokens: length of each text in tokens, with prompt and special tokens, see `count_tokens`.
        most: largest length of a piece in tokens, with prompt and special tokens. Only a character that has more tokens by
            itself makes a longer piece.
        overlap: tokens that a piece has in common with the one before it.
        prompt: prompt that each piece will get in front.

    >>> from tempscale import load_model
    >>> model = load_model("minilm")
    >>> text = "Attention is an average, and an average of many things is much like any other."
    >>> found = cut_texts(model, ["short", text], count_tokens(model, ["short", text]), 12)
    >>> found.texts[1:]
    ['Attention is an average, and an average of', 'many things is much like any other.']
    >>> found.tokens, found.numbers
    ([3, 11, 10], [1, 2])
    """
    room = most - count_tokens(model, [""], prompt)[0]
    cut = {text: [(text, count)] for text, count in zip(texts, tokens, strict=True)}
    for text, [(_, count)] in cut.items():
        if count > most:
            cut[text] = list(_cut(model, text.strip(), most, prompt, room, overlap))
    return Cut(
        [piece for text in texts for piece, _ in cut[text]],
        [count for text in texts for _, count in cut[text]],
        [len(cut[text]) for text in texts],
    )


def _cut(model: Any, text: str, most: int, prompt: str, room: int, overlap: int) -> Iterator[tuple[str, int]]:
    """Yield the pieces of a text, with their tokens as the model will read them."""
    pieces = list(_split(model, text, room, overlap))
    for piece, count in zip(pieces, count_tokens(model, pieces, prompt), strict=True):
        if count > most and room > 1:
            # The end of a word can have more tokens when it stands alone.
            yield from _cut(model, piece, most, prompt, room // 2, 0)
        else:
            yield piece, count


def _split(model: Any, text: str, room: int, overlap: int) -> Iterator[str]:
    """Yield consecutive pieces of a text, each with at most `room` of its tokens, the overlap included."""
    encoded = model.tokenizer(
        text, add_special_tokens=False, truncation=False, verbose=False, return_offsets_mapping=True
    )
    offsets, words = encoded["offset_mapping"], encoded.word_ids()
    # Some characters are several tokens, all at the same place.
    cuts = [k for k in range(1, len(offsets)) if offsets[k][0] >= max(offsets[k - 1][1], offsets[k - 1][0] + 1)]
    room -= overlap
    begin, character = 0, 0
    while (left := len(offsets) - begin) > room:
        wanted = math.ceil(left / math.ceil(left / room))
        possible = _between_words(cuts, words, begin + wanted / 2, begin + room) or _range(
            cuts, begin + 1, begin + room
        )
        possible = possible or cuts[bisect_right(cuts, begin + room) :][:1]
        if not possible:
            break
        end = min(possible, key=lambda k: abs(k - begin - wanted))
        if piece := text[character : offsets[end][0]].strip():
            yield piece
        begin, back = end, end - overlap
        repeated = _between_words(cuts, words, back, end) or _range(cuts, back, end) or [end]
        character = offsets[repeated[0]][0]
    if piece := text[character:].strip():
        yield piece


def _range(cuts: list[int], first: float, last: float) -> list[int]:
    return cuts[bisect_left(cuts, first) : bisect_right(cuts, last)]


def _between_words(cuts: list[int], words: Sequence[int | None], first: float, last: float) -> list[int]:
    return [k for k in _range(cuts, first, last) if words[k] != words[k - 1]]


def mean_of_pieces(vectors: torch.Tensor, numbers: Sequence[int]) -> torch.Tensor:
    """Return the embeddings of texts, (n, d), from those of their pieces.

    A text in one piece keeps its embedding. Of several pieces the unit vectors are averaged and the mean is normalised; it
    gets the mean norm of the pieces, which is 1 for a model that normalises.

    Args:
        vectors: (pieces, d), of any floating type.
        numbers: (n,) number of pieces of each text, in the order of the embeddings.

    >>> mean_of_pieces(torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]]), [1, 2])
    tensor([[0.0000, 2.0000],
            [0.7071, 0.7071]])
    """
    counts = torch.tensor(numbers, dtype=torch.int64, device=vectors.device)[:, None]
    owner = torch.repeat_interleave(torch.arange(len(numbers), device=vectors.device), counts[:, 0])
    exact = vectors.float()
    norms = exact.norm(dim=1, keepdim=True)
    sums = exact.new_zeros(len(numbers), 1 + exact.shape[1])
    sums.index_add_(0, owner, torch.cat([norms, nn.functional.normalize(exact, dim=1)], dim=1))
    means = nn.functional.normalize(sums[:, 1:], dim=1) * sums[:, :1] / counts
    firsts = counts[:, 0].cumsum(0) - counts[:, 0]
    return torch.where(counts == 1, vectors[firsts], means.to(vectors.dtype))


def mean_pooling_at(model: Any) -> int | None:
    """Return the place of the mean pooling among the modules of a model, or None if there is none."""
    for place, module in enumerate(model):
        if type(module).__name__ == "Pooling":
            # A name or several in sentence-transformers 6, and a method in 5.
            mode = module.pooling_mode if hasattr(module, "pooling_mode") else module.get_pooling_mode_str()
            return place if mode in ("mean", ["mean"]) else None
    return None


def late_vectors(
    model: Any, features: Features, options: Mapping[str, Any], tokens: int, overlap: int = 0
) -> tuple[torch.Tensor, list[int]]:
    """Return the embeddings of the pieces of a batch of texts that are read at once, (pieces, d), and how many each has.

    Pieces are about equally long in tokens; special tokens and a prompt belong to the first and the last.

    Args:
        model: model with mean pooling.
        features: tokens of the batch, on the model's device.
        options: options such as the side.
        tokens: largest length of a piece in tokens.
        overlap: tokens that a piece has in common with the one before it.
    """
    place = mean_pooling_at(model)
    assert place is not None, "checked before"
    read = _through(list(model)[:place], features, options)
    mask, embeddings = read["attention_mask"], read["token_embeddings"]
    if read.get("prompt_length") and not model[place].include_prompt:
        mask = mask * (mask.cumsum(1) > int(read["prompt_length"]))
    order = mask.cumsum(1) - 1  # the place of each token in its text, whichever side is padded
    means, numbers = [], []
    for text, length in enumerate(mask.sum(1).tolist()):
        number = max(1, math.ceil((length - overlap) / (tokens - overlap)))
        step = max(1, length - overlap) / number
        first = torch.tensor([[math.floor(piece * step)] for piece in range(number)], device=mask.device)
        last = torch.tensor([[math.floor((piece + 1) * step) + overlap] for piece in range(number)], device=mask.device)
        of_piece = (mask[text] * (order[text] >= first) * (order[text] < last)).float()
        sums = of_piece @ embeddings[text].float()
        means.append(sums / of_piece.sum(1, keepdim=True).clamp(min=1))
        numbers.append(number)
    pooled = {**read, "sentence_embedding": torch.cat(means).to(embeddings.dtype)}
    found: torch.Tensor = _through(list(model)[place + 1 :], pooled, options)["sentence_embedding"]
    return found, numbers


def _through(modules: Iterable[Any], features: Features, options: Mapping[str, Any]) -> Features:
    """Return what modules make of features, each told what it asks for, such as the side."""
    for module in modules:
        asked = getattr(module, "forward_kwargs", ())
        features = module(features, **{name: value for name, value in options.items() if name in asked})
    return features


class InPieces(nn.Module):
    """The first module of a SentenceTransformer whose long texts are read in pieces; their unit vectors are averaged.

    Args:
        model: SentenceTransformer that reads the pieces.
        tokens: largest length of a piece in tokens, prompt and special tokens included.
        overlap: tokens that a piece has in common with the one before it.
        late: whether the model reads a text at once, and only its token embeddings are pooled by piece.
        truncate_dim: dimensions of a piece's embedding that are kept before the mean is taken; all if None.
    """

    # Under this name, with a copy of this file beside it, a saved model knows the class.
    __module__ = "cutting"
    save_in_root = True

    def __init__(
        self, model: Any, tokens: int, overlap: int = 0, late: bool = False, truncate_dim: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.tokens, self.overlap, self.late, self.truncate_dim = tokens, overlap, late, truncate_dim

    def preprocess(self, inputs: Sequence[str], prompt: str | None = None, **options: Any) -> Features:
        """Return the pieces of texts as batches of tokens, and how many each text has.

        Raises:
            ValueError: what is not text.
        """
        for text in inputs:
            if not isinstance(text, str):
                raise ValueError(f"only text is read in pieces, not {type(text).__name__}: pass strings")
        texts, prompt, at_once = list(inputs), prompt or "", len(inputs)
        numbers = [1] * len(texts)
        if not self.late:
            counts = count_tokens(self.model, texts, prompt)
            texts, _, numbers = cut_texts(self.model, texts, counts, self.tokens, self.overlap, prompt)
            at_once = max(at_once, AT_ONCE // self.tokens)
        starts = range(0, len(texts), at_once)
        batches = [features_of(self.model, texts[start : start + at_once], prompt, options) for start in starts]
        return {"pieces": batches, "numbers": numbers}

    def tokenize(self, texts: Sequence[str], **options: Any) -> Features:
        """Return what `preprocess` does, for sentence-transformers 5, which puts the prompt before the texts itself."""
        fitting = [one for one in self.model.prompts.values() if all(str(text).startswith(one) for text in texts)]
        prompt = max(fitting, key=len, default="")
        features = self.preprocess([text[len(prompt) :] for text in texts] if prompt else texts, prompt, **options)
        # Where it looks for the length of a prompt.
        features["input_ids"] = features["pieces"][0]["input_ids"]
        return {**features, "prompt": prompt}

    def forward(self, features: Features, **options: Any) -> Features:
        """Return the embeddings of texts, (n, d), as `sentence_embedding`."""
        if "prompt" in features:
            self._check_prompt(features["prompt"], features.get("prompt_length"))
        return {"sentence_embedding": mean_of_pieces(*self.vectors(features, **options))}

    def vectors(self, features: Features, **options: Any) -> tuple[torch.Tensor, list[int]]:
        """Return the embeddings of all pieces, (pieces, d), and how many each text has."""
        device = self.model.device
        found, numbers = [], features["numbers"]
        for batch in features["pieces"]:
            moved = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
            }
            if self.late:
                made, numbers = late_vectors(self.model, moved, options, self.tokens, self.overlap)
            else:
                made = self.model(moved, **options)["sentence_embedding"]
            found.append(made[:, : self.truncate_dim])
        return torch.cat(found), numbers

    def _check_prompt(self, prompt: str, length: int | None) -> None:
        """Raise ValueError if the prompt that was found before the texts is not as long as the one that was put there."""
        if length is not None and (not prompt or length != self.model._get_prompt_length(prompt)):
            known = ", ".join(repr(one) for one in self.model.prompts.values() if one) or "none"
            raise ValueError(
                "with sentence-transformers 5, texts that are read in pieces take the model's own prompts only "
                f"({known}): choose one by prompt_name, or use sentence-transformers 6"
            )

    @property
    def forward_kwargs(self) -> set[str]:
        """The options that `encode` hands on."""
        return {"task", *self.model.get_model_kwargs()}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the model that reads the pieces."""
        return self.model.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens the model reads at once, at least those of a piece."""
        limit: int | None = self.model.max_seq_length
        return limit

    @max_seq_length.setter
    def max_seq_length(self, length: int | None) -> None:
        if length and length < self.tokens:
            raise ValueError(
                f"pieces have {self.tokens} tokens: expected a max_seq_length of at least that, not {length}"
            )
        self.model.max_seq_length = length

    def get_embedding_dimension(self) -> int | None:
        """Return the width of the embeddings."""
        named = getattr(self.model, "get_embedding_dimension", None) or self.model.get_sentence_embedding_dimension
        width: int | None = named()
        return width if width is None or self.truncate_dim is None else min(width, self.truncate_dim)

    get_sentence_embedding_dimension = get_embedding_dimension  # its name in sentence-transformers 5

    def extra_repr(self) -> str:
        """Show how texts are cut."""
        return f"tokens={self.tokens}, overlap={self.overlap}, late={self.late}"

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any) -> None:
        """Write the model that reads the pieces, how texts are cut, and this file."""
        folder = Path(output_path) / _FOLDER
        self.model.save_pretrained(str(folder), create_model_card=False, safe_serialization=safe_serialization)
        names = ("tokens", "overlap", "late", "truncate_dim")
        config = json.dumps({name: getattr(self, name) for name in names}, indent=2)
        (folder / _CONFIG).write_text(config, encoding="utf-8")
        shutil.copyfile(__file__, Path(output_path) / "cutting.py")

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> "InPieces":
        """Return the module as it was saved, in a folder or a repository of the hub."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.util import load_dir_path

        folder = load_dir_path(
            model_name_or_path,
            subfolder=(Path(subfolder) / _FOLDER).as_posix(),
            token=token,
            cache_folder=cache_folder,
            revision=revision,
            local_files_only=local_files_only,
        )
        if folder is None:
            raise OSError(f"{model_name_or_path} has no folder {_FOLDER}: save the model again")
        # On the CPU; the model around it is moved to its device as a whole.
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=local_files_only, **options)
        return cls(model, **json.loads((Path(folder) / _CONFIG).read_text(encoding="utf-8")))

    def __reduce__(self) -> Any:
        """Pickle by a function of this file: the name of the class is that of another."""
        return _empty, (), self.__dict__


def _empty() -> InPieces:
    return InPieces.__new__(InPieces)
