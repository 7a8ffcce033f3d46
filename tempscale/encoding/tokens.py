"""The tokens of many texts, made once, in parallel and as arrays, and taken in batches."""

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tempscale.encoding.cutting import Features, as_read, count_tokens, features_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MADE_HERE = {"input_ids", "token_type_ids", "attention_mask"}
_SAMPLE = 12

# A tokenizer keeps how it cuts and pads, and one thread reads ahead of another.
_one_at_a_time = threading.Lock()


class Tokens:
    """What a model reads of some texts, batch by batch.

    `SentenceTransformer.encode` tokenises batch by batch, which says nothing about how long a text was before it was cut,
    and spends as much time on lists of Python as on tokens. Here the tokenizer is called directly, for all texts at once,
    as the model itself has set it up. Some texts are read both ways; where they differ in any number the model has its own
    way of reading, and keeps it.

    Args:
        model: model that reads.
        texts: texts without the prompt.
        prompt: prompt put in front of each.
        options: options such as the side, as for `features_of`.

    Attributes:
        uncut: (n,) tokens of each text before it is cut, with prompt and special tokens.
        lengths: (n,) tokens that the model reads of it.

    >>> from tempscale import load_model
    >>> tokens = Tokens(load_model("minilm", max_seq_length=5), ["a text", "a text that is longer"])
    >>> tokens.uncut.tolist(), tokens.lengths.tolist()
    ([4, 7], [4, 5])
    >>> tokens.batch([0, 1])["attention_mask"].tolist()
    [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        texts: Sequence[str],
        prompt: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._texts, self._prompt, self._options = model, texts, prompt, options
        with _one_at_a_time:
            if not (getattr(model.tokenizer, "is_fast", False) and self._read()):
                limit = model.max_seq_length
                self._arrays: dict[str, npt.NDArray[np.int32]] = {}
                self.uncut = np.array(count_tokens(model, texts, prompt), dtype=np.int64)
                self.lengths = np.minimum(self.uncut, limit) if limit else self.uncut

    def _read(self) -> bool:
        """Call the tokenizer; return whether that gives what the model reads."""
        tokenizer = self._model.tokenizer
        sample = self._sample()
        self._like = features_of(self._model, [self._texts[k] for k in sample], self._prompt, self._options)
        tensors = {name: value for name, value in self._like.items() if isinstance(value, torch.Tensor)}
        if not {"input_ids", "attention_mask"} <= tensors.keys() <= _MADE_HERE:
            return False
        backend = tokenizer.backend_tokenizer  # which cuts now as the model has it cut
        backend.no_padding()
        encodings = backend.encode_batch(as_read(self._model, self._texts, self._prompt))
        added = backend.num_special_tokens_to_add(False)
        self.lengths = np.array([len(one) for one in encodings], dtype=np.int64)
        self.uncut = self.lengths + [sum(len(part) - added for part in one.overflowing) for one in encodings]
        self._starts = np.cumsum([0, *self.lengths])
        self._arrays = {"input_ids": self._flat(one.ids for one in encodings)}
        if tensors.get("token_type_ids", torch.zeros(1)).any():
            self._arrays["token_type_ids"] = self._flat(one.type_ids for one in encodings)
        made = self.batch(sample)
        return all(torch.equal(made[name], value) for name, value in tensors.items())

    def _flat(self, lists: Iterable[list[int]]) -> npt.NDArray[np.int32]:
        return np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int32, count=self._starts[-1])

    def _sample(self) -> list[int]:
        """Return some texts: the shortest and the longest, with white space before and after them, and others."""
        texts = self._texts
        by_length = sorted(range(len(texts)), key=lambda k: len(texts[k]))
        before = [k for k in by_length if texts[k] != texts[k].lstrip()]
        after = [k for k in by_length if texts[k] != texts[k].rstrip()]
        spaced = [k for some in (before, after) for k in (*some[:2], *some[-1:])]
        step = max(1, len(texts) // _SAMPLE)
        return list(dict.fromkeys([by_length[-1], by_length[0], *spaced, *range(0, len(texts), step)]))[:_SAMPLE]

    def batch(self, indices: Sequence[int]) -> Features:
        """Return the features of some of the texts, padded to the longest."""
        if not self._arrays:
            with _one_at_a_time:
                return features_of(self._model, [self._texts[k] for k in indices], self._prompt, self._options)
        tokenizer = self._model.tokenizer
        lengths = self.lengths[list(indices)]
        places = np.arange(lengths.max())
        left = tokenizer.padding_side == "left"
        real = places >= (lengths.max() - lengths)[:, None] if left else places < lengths[:, None]
        padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        made = {"attention_mask": real.astype(np.int64)}
        for name in self._like.keys() & padding.keys():
            made[name] = np.full(real.shape, padding[name], dtype=np.int64)
            array = self._arrays.get(name)  # types of a single text are all zero but in a few models
            made[name][real] = (
                0 if array is None else np.concatenate([array[self._starts[k] : self._starts[k + 1]] for k in indices])
            )
        return {**self._like, **{name: torch.from_numpy(array) for name, array in made.items()}}

    @property
    def nbytes(self) -> int:
        """The memory that they take, in bytes."""
        arrays = (*self._arrays.values(), self.lengths, self.uncut)
        return sum(array.nbytes for array in arrays) + sum(len(text) for text in self._texts)
