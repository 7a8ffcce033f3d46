"""A SentenceTransformer as mteb's encoder, with a temperature on one side or on both, and fast over many temperatures."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tempscale.encoding.batching import out_of_memory, padded_tokens, prefetch, token_batches
from tempscale.encoding.features import Features, count_tokens, features_of, on_device, part_of, size_of
from tempscale.encoding.pieces import Pieces, average, check_chunks, pieces_of
from tempscale.patching.layers import Layers
from tempscale.patching.patch import Patch, patch
from tempscale.patching.schedules import Schedule, is_plain, temperature_label

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]
ApplyTo = Literal["both", "document", "query"]
T = TypeVar("T")

# Tokens of a batch. On a CPU throughput hardly depends on it; a GPU wants to be filled.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65536, "mps": 16384}
CACHE_BYTES = 2 << 30  # of embeddings; half as much for tokens
UNCUT = 1 << 30


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

    The temperature is set for every call, by its side. What a call returns depends on its texts, prompt and temperature
    alone: the batches too are a function of those, so that a sweep that was interrupted gives the same numbers to the last
    bit. A call seen before at the same temperature is not computed again: queries that keep the temperature 1, or a corpus
    that tasks share.

    Args:
        model: model to evaluate; patched while a temperature other than 1 is set, see `close`.
        prompts: prompts by mteb's keys: "query", "document", a task's or a task type's name.
        layers: layers that get the temperature, as `patch` takes them.
        apply_to: sides that get the temperature: "both", "document" or "query".
        batch_tokens: size of a batch in tokens, padding included; by the device if None.
        chunk_tokens: length in tokens of the pieces that longer texts are read in (`tempscale.encoding.pieces`); texts are
            read whole if None.
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        *,
        prompts: dict[str, str] | None = None,
        layers: Layers | None = None,
        apply_to: ApplyTo = "both",
        batch_tokens: int | None = None,
        chunk_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.prompts = prompts or {}
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, 16384)
        self.mteb_model_meta: Any = None
        self.progress: Callable[[float], None] = lambda share: None
        self.work = Work()
        self.total_work = Work()
        self._layers, self._apply_to, self._chunk_tokens = layers, apply_to, chunk_tokens
        self._patch: Patch | None = None
        self._temperature: Schedule = 1.0
        self._embeddings, self._tokens = SizedLRU(CACHE_BYTES), SizedLRU(CACHE_BYTES // 2)

    def prove(self, temperatures: Sequence[Schedule]) -> None:
        """Put every temperature into the model once, or raise what `patch` raises: before the work, not in the middle.

        Raises also ValueError for chunk_tokens that the model cannot read, see `check_chunks`.
        """
        if self._chunk_tokens:
            default = self.model.prompts.get(self.model.default_prompt_name or "", "")
            check_chunks(self.model, self._chunk_tokens, {"", default, *self.prompts.values()})
        if self._layers is not None:  # checked also where only 1 is asked for, which takes no patch
            patch(self.model, 1.0, layers=self._layers).remove()
        for temperature in temperatures:
            self._set(temperature)
        self._set(1.0)

    def begin(self, temperature: Schedule) -> None:
        """Set the temperature, and count from zero."""
        self._temperature = temperature
        self.work = Work()

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
        """Return the embeddings (n, d) of mteb's inputs, in float32."""
        texts = list(map(str, inputs.dataset["text"][:]))  # a slice is read at once, a column row by row
        side = prompt_type.value if prompt_type else None
        prompt = self._prompt(task_metadata, prompt_type)
        key = hashlib.sha256("\0".join([side or "", prompt, *texts]).encode()).hexdigest()
        tokens = self._tokens.get_or(
            f"count {key}", lambda: count_tokens(self.model, texts, prompt), lambda found: 40 * len(found)
        )
        ids = inputs.dataset["id"][:] if "id" in inputs.dataset.column_names else None
        self.work.requests.append(Request(side, prompt, texts, ids, tokens))
        pieces = self._pieces(texts, tokens, prompt, key)
        self.work.texts_cut += sum(count > self._limit for count in pieces.tokens)
        self.work.tokens_asked += sum(min(count, self._limit) for count in pieces.tokens)
        temperature = self._temperature if self._apply_to in ("both", side) else 1.0
        self._set(temperature)
        return self._embeddings.get_or(
            f"{temperature_label(temperature)} {key}",
            lambda: average(self._encode(pieces.texts, pieces.tokens, prompt, side, key), pieces.numbers),
            lambda found: found.nbytes,
        )

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the similarities (n, m) as the model's authors define them."""
        found: torch.Tensor = self.model.similarity(embeddings1, embeddings2)
        return found

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Return the similarities (n,) of pairs."""
        found: torch.Tensor = self.model.similarity_pairwise(embeddings1, embeddings2)
        return found

    @property
    def _limit(self) -> int:
        return int(self.model.max_seq_length or UNCUT)

    def _set(self, temperature: Schedule) -> None:
        if self._patch:
            self._patch.temperature = temperature
        elif not is_plain(temperature):
            self._patch = patch(self.model, temperature, layers=self._layers)

    def _prompt(self, task_metadata: Any, prompt_type: Any) -> str:
        """Return the prompt, chosen in the order of mteb, and else the model's default as sentence-transformers does."""
        from mteb.models.abs_encoder import get_prompt

        found = get_prompt(self.prompts, task_metadata, prompt_type)
        if found is None and self.model.default_prompt_name:
            found = self.model.prompts[self.model.default_prompt_name]
        return found or ""

    def _pieces(self, texts: list[str], tokens: list[int], prompt: str, key: str) -> Pieces:
        """Return the texts as the model is to read them: whole, or the long ones in pieces."""
        most = self._chunk_tokens
        if most is None or max(tokens, default=0) <= most:
            return Pieces(texts, tokens, [1] * len(texts))
        return self._tokens.get_or(
            f"cut {key}",
            lambda: pieces_of(self.model, texts, tokens, most, prompt),
            lambda found: sum(40 + len(piece) for piece in found.texts),
        )

    def _encode(self, texts: list[str], tokens: list[int], prompt: str, side: str | None, key: str) -> Embeddings:
        """Encode each different text once."""
        unique = list(dict.fromkeys(texts))
        position = {text: index for index, text in enumerate(unique)}
        lengths = [0] * len(unique)
        for text, count in zip(texts, tokens, strict=True):
            lengths[position[text]] = min(count, self._limit)
        batches = token_batches(lengths, self.batch_tokens)
        options = {"task": side} if side else {}

        def prepare(batch: list[int]) -> Features:
            some = [unique[index] for index in batch]
            name = f"{batch[0]} {batch[-1]} {len(batch)} {self.batch_tokens} {key}"
            return self._tokens.get_or(name, lambda: features_of(self.model, some, prompt, options), size_of)

        parts: list[torch.Tensor] = []
        done, total = 0, sum(lengths) or 1
        with torch.inference_mode():
            for batch, features in prefetch(prepare, batches):
                parts.append(self._forward(features, len(batch), options))
                done += sum(lengths[index] for index in batch)
                self.progress(done / total)
            found = torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, 0), dtype=np.float32)
        padded = padded_tokens(lengths, batches)
        for work in (self.work, self.total_work):
            work.tokens_read += sum(lengths)
            work.tokens_padded += padded
        order = np.empty(len(unique), dtype=np.int64)
        order[[index for batch in batches for index in batch]] = np.arange(len(unique))
        embeddings: Embeddings = found[order[[position[text] for text in texts]]]
        return embeddings

    def _forward(self, features: Features, texts: int, options: Features) -> torch.Tensor:
        """Run one batch; halve it where memory does not suffice."""
        device = self.model.device
        try:
            found: torch.Tensor = self.model(on_device(features, device), **options)["sentence_embedding"]
            return found if self.model.truncate_dim is None else found[:, : self.model.truncate_dim]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if texts == 1:
                raise MemoryError(
                    f"out of memory on {device} with a single text: set a smaller max_seq_length than {self._limit}, or "
                    "dtype float16 or bfloat16"
                ) from error
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self.batch_tokens = max(1, self.batch_tokens // 2)
        half = texts // 2
        first, second = (part_of(features, texts, part) for part in (slice(half), slice(half, None)))
        return torch.cat([self._forward(first, half, options), self._forward(second, texts - half, options)])
