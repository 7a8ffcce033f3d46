"""Read the attention of a real model: every layer and head on real texts, as one table."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tempscale.encoding.cutting import features_of
from tempscale.models import max_positions
from tempscale.patching.patch import FOLDED
from tempscale.patching.recorder import configurations, find_transformer
from tempscale.patching.schedules import PerLayer, per_layer
from tempscale.probing.attention_rows import AttentionCall, row_statistics
from tempscale.probing.capture import Capture, Layer
from tempscale.spectrum.signals import hc

if TYPE_CHECKING:
    import pandas as pd


def probe(
    model: nn.Module,
    texts: "Iterable[str | Sequence[int] | torch.Tensor]",
    *,
    max_tokens: int | None = None,
    window: int = 2,
) -> "pd.DataFrame":
    """Read the attention of every layer and head of a model on texts, one text at a time.

    What is read is what softmax gets: queries and keys after biases, norms and rotary embeddings, the scale, position
    biases and masks, and so the temperature of a patched model. For another temperature patch the model and probe again:
    with the queries and keys of this one, only the first layer's table would be true.

    In the formulas A is the attention of a head, n x n; V its values, n x d_h; x the input of the attention module,
    after a layer norm if one comes first; HC and DC the parts of a signal (`tempscale.hc`), with Frobenius norms.

    Args:
        model: a SentenceTransformer, or a transformers model; on its device, in its dtype. Patched or not.
        texts: strings for a SentenceTransformer, which are read as given (prompts are yours to put in front); or the token
            ids (n,) of each text, special tokens included.
        max_tokens: length at which a text is cut, in tokens, special tokens included; by default the model's
            `max_seq_length`.
        window: largest distance at which a token counts in `local_mass`, in tokens on either side.

    Returns:
        One row for each text, layer and head. The columns, without unit where none is named, are

        - text: number of the text, from 0;
        - tokens: n, special tokens included;
        - temperature: by which the logits of this layer are divided in the probed model;
        - layer, head: from 0, layers in the order of the forward pass;
        - filter_rate: ||(I - J) A||_2, see `tempscale.filter_rate`; its relative error is at most 1e-5, apart
          from rounding: single precision tells no rate below 1e-6 from 0;
        - logit_std: root mean square over rows of the standard deviation of a row's logits, unmasked keys only;
        - entropy: mean over rows, in nats;
        - column_mass: the largest share of the whole attention that one token gets, max_j (1/n) sum_i A_ij; at least 1/n;
        - local_mass: mean over rows of the weight of the tokens at most `window` away;
        - attention_gain: ||HC[A V]|| / ||HC[V]||, what A does to this signal; at most the filter rate;
        - value_gain: ||HC[V]|| / ||HC[x]||, what the value weights do;
        - path_gain: ||HC[y]|| / ||HC[x]||, where y is the output of the projection that joins all heads; a number of the
          layer: attention with its value and output weights, before the residual is added;
        - block_gain: ||HC[output]|| / ||HC[input]|| of the whole layer, with residual, norms and MLP;
        - hc_dc_input, hc_dc_output: ||HC|| / ||DC|| of the token states before and after the layer.

        A number that does not exist (0/0), or that the model's code hides (values in XLNet), is NaN; so is the path_gain
        where something is added to the heads before the projection (Nystromformer).

    Raises:
        UnsupportedModelError: no softmax attention, or sparse attention, whose softmax does not see whole rows.
        ValueError: no text, a string for a model without tokenizer, or a max_tokens that is not possible.
        TypeError: not a torch module.

    Source: the filter rate, Theorem 2 of arXiv 2410.24200; the other columns are plain descriptions.

    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    ...                              intermediate_size=32))
    >>> table = probe(model, [range(5, 25), range(30, 90)])
    >>> table.groupby(["layer", "head"]).filter_rate.count().to_dict()
    {(0, 0): 2, (0, 1): 2, (1, 0): 2, (1, 1): 2}
    """
    import pandas as pd

    transformer = find_transformer(model)
    capture = Capture(transformer, lambda call: _heads(call, window))
    tables = []
    with _cut(model, max_tokens):
        for number, text in enumerate(texts):
            inputs = _inputs(model, transformer, text, max_tokens)
            layers, tokens = capture.run(inputs), inputs["input_ids"].shape[1]
            temperatures = _temperatures(transformer, [layer.module for layer in layers], tokens)
            for index, layer in enumerate(layers):
                about = {"text": number, "tokens": tokens, "temperature": temperatures[index], "layer": index}
                tables.append(pd.DataFrame(about | _columns(layer)))
    if not tables:
        raise ValueError("no text to probe: give at least one")
    return pd.concat(tables, ignore_index=True)


def _heads(call: AttentionCall, window: int) -> dict[str, torch.Tensor]:
    """Return what one attention call says of each head, with the norms of HC[V] and of HC[A V]."""
    found = row_statistics(call, window=window)
    unknown = torch.full_like(found.entropy, torch.nan)
    return {
        "filter_rate": call.filter_rate(),
        "logit_std": found.logit_std,
        "entropy": found.entropy,
        "column_mass": found.column_mass,
        "local_mass": found.local_mass,
        "values": unknown if call.value is None else hc(call.value.double()).norm(dim=(-2, -1)),
        "attended": unknown if found.attended is None else hc(found.attended).norm(dim=(-2, -1)),
    }


def _columns(layer: Layer) -> dict[str, Any]:
    """Return the columns of one layer, a row for each head."""
    found = {name: numbers.cpu().numpy() for name, numbers in layer.heads.items()}
    values, attended = found.pop("values"), found.pop("attended")
    entering, leaving = layer.entering_block, layer.leaving_block
    return {
        "head": range(len(values)),
        **found,
        "attention_gain": _ratio(attended, values),
        "value_gain": _ratio(values, layer.entering_attention.hc),
        "path_gain": _ratio(layer.leaving_projection.hc, layer.entering_attention.hc),
        "block_gain": _ratio(leaving.hc, entering.hc),
        "hc_dc_input": _ratio(entering.hc, entering.dc),
        "hc_dc_output": _ratio(leaving.hc, leaving.dc),
    }


def _ratio(numerator: Any, denominator: Any) -> Any:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator)


def _temperatures(transformer: Any, modules: list[nn.Module], tokens: int) -> list[float]:
    """Return the temperature of each attention call in a model that may be patched or folded."""
    distinct, lengths = list(dict.fromkeys(modules)), torch.tensor([tokens])
    folded = next((found for config in configurations(transformer) if (found := getattr(config, FOLDED, None))), 1.0)
    each: list[Any] = per_layer(PerLayer(folded) if isinstance(folded, list) else folded, len(distinct))
    numbers = dict(zip(distinct, each, strict=True))
    # A patch may be that of a part of the model, and there may be several.
    for patched in (vars(module).get("tempscale_patch") for module in transformer.modules()):
        if patched:
            numbers |= {site.module: float(patched.temperature_of(site.module, lengths)) for site in patched.sites}
    return [numbers[module] for module in modules]


@contextmanager
def _cut(model: Any, max_tokens: int | None) -> Iterator[None]:
    """Let a SentenceTransformer cut texts to at most `max_tokens` tokens."""
    if max_tokens is None or not hasattr(model, "max_seq_length"):
        yield
        return
    before, limit = model.max_seq_length, max_positions(model)
    if max_tokens < 1 or (limit is not None and max_tokens > limit):
        raise ValueError(f"max_tokens {max_tokens} is not possible: expected 1 to {limit or 'any number of'} tokens")
    model.max_seq_length = max_tokens
    try:
        yield
    finally:
        model.max_seq_length = before


def _inputs(model: Any, transformer: Any, text: Any, max_tokens: int | None) -> dict[str, Any]:
    """Return the inputs of a model for one text, without padding."""
    if not isinstance(text, str):
        ids = torch.as_tensor(list(text))[None, :max_tokens]
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    elif hasattr(model, "tokenizer"):
        features = features_of(model, [text])
    else:
        raise ValueError(
            f"{type(model).__name__} has no tokenizer for the text {text[:20]!r}: give token ids, or a SentenceTransformer"
        )
    # A patched model may hide the arguments of its class.
    accepted = inspect.signature(getattr(transformer, "_tempscale_base", type(transformer)).forward).parameters
    device = next(transformer.parameters()).device
    given: dict[str, Any] = {name: x.to(device) for name, x in features.items() if name in accepted}
    return given | ({"use_cache": False} if "use_cache" in accepted else {})
