"""A SentenceTransformer as mteb's encoder, with a temperature on one side or on both, and fast over many temperatures."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tempscale.encoding.batching import on_device, out_of_memory, prefetch, token_batches, windows
from tempscale.encoding.cutting import Features, count_tokens, cut_texts, late_vectors
from tempscale.encoding.pieces import averaged, check_pieces, most_pieces, padded, score_pieces, with_pieces
from tempscale.encoding.reading import Pieces, Reading
from tempscale.encoding.tokens import Tokens
from tempscale.patching.layers import RepeatableLayers, layers_label
from tempscale.patching.patch import Patch, patch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]
Transform = Callable[[Sequence[str], Embeddings, str | None], npt.NDArray[Any]]
T = TypeVar("T")

# Tokens of a batch. On a CPU throughput hardly depends on it; a GPU wants to be filled.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}
CACHE_BYTES = 2 << 30  # of embeddings; half as much for tokens
UNCUT = 1 << 30

# Texts are tokenised in windows of so many batches, of so many characters for a token; the next while the model reads one.
_BATCHES, _CHARACTERS = 8, 4


class SizedLRU:
    """Values by key, the ones not used for longest dropped when all together grow beyond a limit of bytes.

    >>> recent = SizedLRU(limit=10)
    >>> for text in ("four", "more", "four", "text"):
    ...     _ = recent.get_or(text, lambda: text, len)
    >>> list(recent)
    ['four', 'text']
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._bytes = 0

    def get_or(self, key: str, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the value of a key; make it, and note its size, if it is not there."""
        if key not in self._values:
            value = make()
            self._values[key] = (size(value), value)
            self._bytes += self._values[key][0]
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][0]
        self._values.move_to_end(key)
        found: T = self._values[key][1]
        return found

    def __iter__(self) -> Any:
        """Go through the keys, the one not used for longest first."""
        return iter(self._values)


@dataclass
class Request:
    """What mteb asked to encode: side, prompt, texts, the ids of documents, and the tokens of each text before it is cut."""

    side: str | None
    prompt: str
    texts: list[str]
    ids: list[str] | None
    tokens: list[int]


@dataclass(frozen=True)
class Encoded:
    """Texts that were encoded, and for each text how many tokens it has, are read, and are cut off.

    Embeddings are (n, d), or (n, vectors, d) where a text keeps its pieces (`with_pieces`).
    """

    embeddings: Embeddings
    tokens: npt.NDArray[np.int64]
    read: npt.NDArray[np.int64]
    cut_off: npt.NDArray[np.int64]


class _Vectors(NamedTuple):
    """The vectors of the pieces of texts, (pieces, d), how many each text has, and its counts as in `Encoded`."""

    vectors: Embeddings
    numbers: list[int]
    counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass
class Work:
    """What was done since the last `Encoder.begin`."""

    requests: list[Request] = field(default_factory=list)
    texts_cut: int = 0  # of all texts of the requests, those longer than the model reads
    tokens_asked: int = 0  # of all texts, cut to the model's length or into pieces
    tokens_read: int = 0  # by the model: each text once, unless it was known
    tokens_padded: int = 0  # tokens_read and the padding of their batches


class Encoder:
    """The encoder that mteb evaluates.

    How texts are read is set by `begin`, the temperature for every call by its side. What a call returns depends on its
    texts, prompt and reading, and on the calls before it since `begin`: the batches too are a function of those, so that a
    sweep that was interrupted gives the same numbers to the last bit. A call seen before with the same reading is not
    computed again: queries that keep the temperature 1, or a corpus that tasks share. Neither is a text without a side that
    was seen since `begin`: a classification draws its training sets from the same texts, however many it draws.

    Args:
        model: model to evaluate; patched while a temperature other than 1 is set, see `close`.
        prompts: prompts by mteb's keys: "query", "document", a task's or a task type's name.
        batch_tokens: size of a batch in tokens, padding included; by the device if None.

    Attributes:
        transform: what is done to the embeddings of texts after the model; it is given the texts, their embeddings, and
            their side ("query", "document" or None).
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        *,
        prompts: dict[str, str] | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.prompts = prompts or {}
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, 16384)
        self.mteb_model_meta: Any = None
        self.progress: Callable[[float], None] = lambda share: None
        self.work = Work()
        self.total_work = Work()
        self.transform: Transform | None = None
        self._reading = Reading()
        self._patch: Patch | None = None
        self._layers: RepeatableLayers = None  # of the patch
        self._embeddings, self._tokens = SizedLRU(CACHE_BYTES), SizedLRU(CACHE_BYTES // 2)
        # Texts without a side since `begin`, by prompt and temperature: with what each was encoded, and its place there.
        self._known: dict[tuple[str, str], dict[str, tuple[Encoded, int]]] = {}

    def prove(self, readings: Sequence[Reading]) -> None:
        """Put every temperature into the model once, or raise what `patch` raises: before the work, not in the middle.

        Raises also ValueError for pieces that the model cannot read, see `check_pieces`.
        """
        default = self.model.prompts.get(self.model.default_prompt_name or "", "")
        for reading in readings:
            if reading.pieces:
                check_pieces(self.model, reading.pieces, {"", default, *self.prompts.values()})
            self._set(reading)
            if reading.is_plain and reading.layers is not None:  # which takes no patch, and is checked nevertheless
                self.close()
                patch(self.model, 1.0, layers=reading.layers).remove()
        self._set(Reading())

    def begin(self, reading: Reading, transform: "Transform | None" = None) -> None:
        """Set how texts are read, and what is done to their embeddings afterwards; and count from zero."""
        self._reading, self.transform = reading, transform
        self.work = Work()
        self._known.clear()

    def close(self) -> None:
        """Leave the model as it was."""
        if self._patch:
            self._patch.remove()
            self._patch = None

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Embeddings:
        """Return the embeddings (n, d) of mteb's inputs, in float32; (n, vectors, d) where documents keep their pieces."""
        texts = list(map(str, inputs.dataset["text"][:]))  # a slice is read at once, a column row by row
        ids = inputs.dataset["id"][:] if "id" in inputs.dataset.column_names else None
        side = prompt_type.value if prompt_type else None
        prompt = self._prompt(task_metadata, prompt_type)
        reading = self._reading if self._reading.side in ("both", side) else Reading(pieces=self._reading.pieces)
        self._set(reading)
        found = self._known_or_new(texts, prompt, side, reading)
        self.work.requests.append(Request(side, prompt, texts, ids, found.tokens.tolist()))
        self.work.texts_cut += int((found.cut_off > 0).sum())
        self.work.tokens_asked += int(found.read.sum())
        if self.transform is None:
            return found.embeddings
        return np.asarray(self.transform(texts, found.embeddings, side), dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the similarities (n, m) as the model's authors define them, or with the best pieces of documents."""
        if np.ndim(embeddings2) == 3:
            assert self._reading.pieces, "only pieces make several vectors of a document"
            return score_pieces(self.model.similarity, embeddings1, embeddings2, self._reading.pieces.pool)
        found: torch.Tensor = self.model.similarity(embeddings1, embeddings2)
        return found

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the similarities (n,) of pairs."""
        found: torch.Tensor = self.model.similarity_pairwise(embeddings1, embeddings2)
        return found

    @property
    def _limit(self) -> int:
        return int(self.model.max_seq_length or UNCUT)

    def _set(self, reading: Reading) -> None:
        """Put the temperature of a reading into its layers."""
        if self._patch and not reading.is_plain and layers_label(reading.layers) != layers_label(self._layers):
            self.close()
        if self._patch:
            self._patch.temperature = reading.temperature
        elif not reading.is_plain:
            self._patch, self._layers = patch(self.model, reading.temperature, layers=reading.layers), reading.layers

    def _prompt(self, task_metadata: Any, prompt_type: Any) -> str:
        """Return the prompt, chosen in the order of mteb, and else the model's default as sentence-transformers does."""
        from mteb.models.abs_encoder import get_prompt

        found = get_prompt(self.prompts, task_metadata, prompt_type)
        if found is None and self.model.default_prompt_name:
            found = self.model.prompts[self.model.default_prompt_name]
        return found or ""

    def _known_or_new(self, texts: list[str], prompt: str, side: str | None, reading: Reading) -> Encoded:
        """Return encoded texts, each different one read once."""
        label = " ".join((*reading.labels(), str(reading.pieces)))
        known = self._known.setdefault((prompt, label), {}) if side is None else {}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new or not texts:
            made = self._embeddings.get_or(
                f"{label} {_hash(side, prompt, new)}",
                lambda: self._encode(new, prompt, side, reading),
                lambda encoded: encoded.embeddings.nbytes,
            )
            known.update((text, (made, row)) for row, text in enumerate(new))
            if new == texts:
                return made
        rows = [known[text] for text in texts]
        return Encoded(
            *(np.stack([getattr(encoded, name)[row] for encoded, row in rows]) for name in Encoded.__dataclass_fields__)
        )

    def _encode(self, texts: list[str], prompt: str, side: str | None, reading: Reading) -> Encoded:
        """Let the model read texts whole, or the long ones in pieces."""
        pieces = reading.pieces
        if pieces is None:
            embeddings, tokens = self._run(texts, prompt, side)
            read = np.minimum(tokens, self._limit)
            return Encoded(embeddings, tokens, read, tokens - read)
        vectors = self._embeddings.get_or(
            " ".join((*reading.labels(), str(replace(pieces, pool="mean")), "pieces", _hash(side, prompt, texts))),
            lambda: self._vectors(texts, prompt, side, pieces),
            lambda found: found.vectors.nbytes,
        )
        pool = averaged if side != "document" or pieces.pool == "mean" else with_pieces
        return Encoded(pool(vectors.vectors, vectors.numbers), *vectors.counts)

    def _vectors(self, texts: list[str], prompt: str, side: str | None, pieces: Pieces) -> "_Vectors":
        """Return the vectors of the pieces of texts."""
        if pieces.late:
            padded, tokens = self._run(texts, prompt, side, pieces)
            there = ~np.isnan(padded[..., 0])
            read = np.minimum(tokens, self._limit)
            return _Vectors(padded[there], there.sum(1).tolist(), (tokens, read, tokens - read))
        counts = count_tokens(self.model, texts, prompt)
        cut = cut_texts(self.model, texts, counts, pieces.tokens, pieces.overlap, prompt)
        unique = list(dict.fromkeys(cut.texts))
        place = {piece: k for k, piece in enumerate(unique)}
        embeddings, _ = self._run(unique, prompt, side)
        of_pieces = np.array(cut.tokens, dtype=np.int64)
        read = np.minimum(of_pieces, self._limit)
        firsts = np.cumsum([0, *cut.numbers[:-1]])[: len(texts)]
        return _Vectors(
            embeddings[[place[piece] for piece in cut.texts]],
            cut.numbers,
            (
                np.array(counts, dtype=np.int64),
                np.add.reduceat(read, firsts),
                np.add.reduceat(of_pieces - read, firsts),
            ),
        )

    def _run(
        self, texts: list[str], prompt: str, side: str | None, late: Pieces | None = None
    ) -> tuple[Embeddings, npt.NDArray[np.int64]]:
        """Return the embeddings of texts, all different, or those of their late pieces, and their tokens before the cut."""
        options = {"task": side} if side else {}
        longest = 2 * _CHARACTERS * self._limit  # of what is certainly cut, the rest costs the model nothing
        sizes = [min(len(text), longest) for text in texts]
        order: list[int] = []
        counts = np.zeros(len(texts), dtype=np.int64)
        embeddings = torch.zeros(0, 0, 0) if late else torch.zeros(0, 0)
        done, total = 0, sum(sizes) or 1

        def read(window: list[int]) -> Tokens:
            some = [texts[index] for index in window]
            return self._tokens.get_or(
                _hash(side, prompt, some),
                lambda: Tokens(self.model, some, prompt, options),
                lambda tokens: tokens.nbytes,
            )

        with torch.inference_mode():
            for window, tokens in prefetch(read, windows(sizes, _BATCHES * _CHARACTERS * self.batch_tokens), depth=2):
                counts[window] = tokens.uncut
                for batch, made in self._batches(tokens, options, late):
                    rows = [window[index] for index in batch]
                    if not order:
                        embeddings = torch.empty(len(texts), *made.shape[1:], pin_memory=made.is_cuda)
                    if made.is_cuda:  # one block after the other, so that nothing waits for the device
                        embeddings[len(order) : len(order) + len(rows)].copy_(made.float(), non_blocking=True)
                    else:
                        embeddings[rows] = made.float()
                    order += rows
                    done += sum(sizes[row] for row in rows)
                    self.progress(done / total)
        if embeddings.is_pinned():
            torch.cuda.synchronize()
            embeddings = torch.empty(embeddings.shape).index_copy_(0, torch.tensor(order), embeddings)
        return embeddings.numpy(), counts

    def _batches(
        self, tokens: Tokens, options: Features, late: Pieces | None
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield the batches of a window with their embeddings; smaller ones from the first on that does not fit."""
        waiting = token_batches(tokens.lengths.tolist(), self.batch_tokens)
        while waiting:
            batch = waiting[0]
            lengths = tokens.lengths[batch]
            padded = len(batch) * int(lengths.max())
            made = self._forward(tokens.batch(batch), options, late)
            if made is None:
                self._shrink(len(batch))
                left = [index for one in waiting for index in one]
                again = token_batches(tokens.lengths[left].tolist(), self.batch_tokens)
                waiting = [[left[index] for index in one] for one in again]
                continue
            for work in (self.work, self.total_work):
                work.tokens_read += int(lengths.sum())
                work.tokens_padded += padded
            yield waiting.pop(0), made

    def _forward(self, features: Features, options: Features, late: Pieces | None) -> torch.Tensor | None:
        """Return the embeddings of a batch, or None if memory does not suffice."""
        moved = on_device(features, self.model.device)
        try:
            if late:
                vectors, numbers = late_vectors(self.model, moved, options, late.tokens, late.overlap)
                found = padded(vectors, numbers, most_pieces(late, self._limit))
            else:
                found = self.model(moved, **options)["sentence_embedding"]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None
        return found if self.model.truncate_dim is None else found[..., : self.model.truncate_dim]

    def _shrink(self, texts: int) -> None:
        """Have batches of half the size from now on."""
        device = self.model.device
        if texts == 1:
            raise MemoryError(
                f"out of memory on {device} with a single text: set a smaller max_seq_length than {self._limit}, or "
                "dtype float16 or bfloat16"
            )
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self.batch_tokens = max(1, self.batch_tokens // 2)


def _hash(side: str | None, prompt: str, texts: Sequence[str]) -> str:
    """Return a hash of texts, with their lengths, since a text may hold any character that could stand between them."""
    parts = [side or "", prompt, *texts]
    total = hashlib.sha256(str([len(part) for part in parts]).encode())
    total.update("".join(parts).encode(errors="surrogatepass"))
    return total.hexdigest()
