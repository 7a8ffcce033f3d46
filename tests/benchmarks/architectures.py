"""Patch every text model of transformers, tiny and random, and let an oracle that shares no code judge each.

    python tests/benchmarks/architectures.py [--only PATTERN] [--output CSV] [--against CSV] [--seconds 120]

A label is a class of transformers, with what is particular: `LlamaModel LEFT` is padded on the left, `BartModel.encoder` is
the encoder inside. Its configuration is the default one, shrunk; its weights are random and so wide that temperatures show.
Each label is judged in eager and in sdpa attention, on a padded batch: at four temperatures, one by length, and one in the
last layer only, the patched model must be what eager attention gives when its softmax divides; at 1, and after removal, it
must be the plain model to the last bit. Verdicts are

    agree        all that
    WRONG        accepted, but not so: a silent fault
    unsupported  refused by a sentence of the package, which is shown
    unfit        the plain model does not run on this batch, tokens and a mask alone, so nothing was judged
    crashed      any other exception of the package
    unmoved      the model does not change with the temperature, so nothing was judged
    build        not built or not run: transformers has no such attention, too large, too slow, or a recipe is missing

A row is printed and written to the output when it is known; labels that the output has are not run again. With an earlier
table (with columns label, eager, sdpa) all that agreed there and does not now is listed. The exit status is 1 if there is
any such refusal or crash, or any silent fault. Not a test: it takes five to ten minutes,
and follows the newest transformers.
"""

import argparse
import csv
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from unittest import mock

import torch
import transformers
from transformers.models.auto import modeling_auto

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.oracle import batch, eager_output, real, softmax_temperature

from tempscale import LogLength, patch

IMPLEMENTATIONS = ("eager", "sdpa")
UNIFORM = (0.5, 0.8, 1.3)
BY_LENGTH = LogLength(4)
WORST_FIRST = ("WRONG", "crashed", "unsupported", "unfit", "unmoved", "agree", "build")
UNJUDGED = ("unfit", "unmoved", "build")
COLUMNS = ("label", "outcome", *IMPLEMENTATIONS, "error", "effect", "seconds", "message")

LAYERS, VOCABULARY, MOST_PARAMETERS = 4, 99, 7e7
# The largest a number of a configuration may be: the first pattern that is the whole of its name.
SIZES = {
    r"codebook_size": 64,
    r"(.*_)?vocab_sizes?(_per_layer_input)?": VOCABULARY,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_(source|target)_positions": 128,
    r"(.*_)?(kv_heads|key_value_heads|kv_n_heads)": 2,
    r"qk_head_dim": 32,
    r".*(head_dim|head_size|dim_head|d_head|d_kv|kv_channels|rank)|query_pre_attn_scalar": 16,
    r"(.*_)?heads?": 4,
    r".*experts_per_tok(en)?|moe_(topk|top_k|k)|top_k_experts": 2,
    r"n_group|topk_group|.*shared_experts|index_kpool": 1,
    r".*experts": 4,
    r".*(intermediate_size.*|ffn_dim|ffn_hidden_size|d_ff|dff|dim_ff|inner|mlp_dim|feed_forward_size)": 48,
    r"(.*_)?(num_hidden|num|n|encoder|decoder)_layers?|depth|.*_layers|num_blocks": LAYERS,
    r"sliding_window(_size)?|local_attention|attention_window(_size)?|attention_chunk_size|rotary_dim|num_filters": 8,
    r"base_channels": 32,
    r".*(hidden_sizes?|d_model|n_embd|_dim|_width|embedding_size|embed_size|size_per_layer_input)|dim": 64,
}
# Special tokens beyond the vocabulary, by a word in the name. None of them is in the batch, except the padding.
TOKENS = {"pad": 1, "eos": 2, "bos": 3, "": VOCABULARY - 1}

# What the general recipe does not find out, by class of configuration.
EXCEPTIONS = {
    "BambaConfig": {"mamba_expand": 1, "attn_layer_indices": [1, 3]},
    "DbrxAttentionConfig": {"rope_theta": 10000.0, "clip_qkv": 8.0},
    "DeepseekV2Config": {"num_experts_per_tok": 2},
    "Dots1Config": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "EsmConfig": {"vocab_size": VOCABULARY, "pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "rotary"},
    "FalconH1Config": {"mamba_d_ssm": 64, "mamba_d_head": 16},
    "FunAsrNanoAdaptorConfig": {"intermediate_size": 16},
    "Gemma3nTextConfig": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "GraniteMoeHybridConfig": {"mamba_expand": 1, "layer_types": ["mamba", "attention"] * 2},
    "HunYuanDenseV1Config": {"head_dim": 16},
    "HunYuanMoEV1Config": {"head_dim": 16},
    "HunYuanVLTextConfig": {"head_dim": 16},
    "JambaConfig": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "Lfm2MoeConfig": {"layer_types": ["conv", "full_attention"] * 2},
    "LiltConfig": {"hidden_size": 48},
    "MetaClip2TextConfig": {"eos_token_id": 1},
    "MinistralConfig": {"head_dim": 16},
    "Ministral3Config": {"rope_parameters": {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 8}},
    "Mistral4Config": {"rope_parameters": {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 8}},
    "MobileBertConfig": {
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
        "normalization_type": "layer_norm",
    },
    "Molmo2AdapterConfig": {"vision_feature_layer": [-1, -2]},
    "NemotronConfig": {"num_key_value_heads": 2},
    "NemotronHConfig": {"n_groups": 2},
    "OwlViTTextConfig": {"max_position_embeddings": 32},
    "Owlv2TextConfig": {"max_position_embeddings": 32},
    "ReformerConfig": {"axial_pos_embds": False},
    "XmodConfig": {"default_language": "en_XX"},
    "Step3p7TextConfig": {"sliding_window": 8},
    "ZambaConfig": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
}
# Labels that are more than a class: the class, and options of its configuration.
VARIANTS = {
    "BigBird sparse": ("BigBirdModel", {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}),
    "Falcon alibi": ("FalconModel", {"alibi": True}),
    "Falcon mha": ("FalconModel", {"multi_query": False, "num_kv_heads": 4}),
    "Falcon new decoder": ("FalconModel", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "GPT2 scale_by_inverse_layer_idx": ("GPT2Model", {"scale_attn_by_inverse_layer_idx": True}),
    "Gemma2 softcap": ("Gemma2Model", {"attn_logit_softcapping": 2.0}),
    "Lfm2 2 attn of 4": ("Lfm2Model", {"layer_types": ["conv", "full_attention"] * 2}),
    "LongT5 tglobal": (
        "LongT5EncoderModel",
        {"encoder_attention_type": "transient-global", "global_block_size": 4, "local_radius": 3},
    ),
    "Longformer w8": ("LongformerModel", {"attention_window": 8}),
    "Nystrom landmarks==L": ("NystromformerModel", {"num_landmarks": 17, "segment_means_seq_len": 17}),
    "Qwen3Next": ("Qwen3NextModel", {"layer_types": ["linear_attention", "full_attention"] * 2}),
    "RecurrentGemma": ("RecurrentGemmaModel", {"block_types": ["recurrent", "attention"]}),
    "T5Gemma2.enc": ("T5Gemma2Model", {}),
    **{f"{name}Model topk 8<L": (f"{name}Model", {"index_topk": 8}) for name in ("AXK2", "DeepseekV32", "GlmMoeDsa")},
}
LEFT = (
    "Bloom Cohere Cohere2 DeepseekV3 DiffLlama Exaone4 Falcon GPT2 GPTJ GPTNeo GPTNeoX Gemma2 Gemma3Text Glm4 Granite "
    "Llama Llama4Text Ministral3 Mistral Mixtral ModernBertDecoder Mpt OPT Olmo3 Phi Phi3 Qwen2 Qwen3 Qwen3Moe Qwen3Next "
    "SmolLM3 StableLm"
)
# Classes beside the mappings of transformers.
TOWERS = (
    r"\w+(TextModel|TextModelWithProjection|EncoderModel)|DPR\w+Encoder|ProphetNetEncoder|DecisionTransformerGPT2Model"
)
# Sections of rotary positions in three dimensions, and the share of a head that has them.
SECTIONS = {
    **dict.fromkeys(
        ("Glm4v", "GlmImage", "GlmOcr", "PaddleOCR", "Qwen2VL", "Qwen2_5OmniThinker", "Qwen2_5_VL"), ("224", "422")
    ),
    "Glm4vMoe": ("112", "211"),
    **dict.fromkeys(("Qwen3OmniMoeThinker", "Qwen3VL"), ("112", "211", "224", "422", "448")),
}
ENCODERS = (
    "Bart BigBirdPegasus Blenderbot BlenderbotSmall Dia Florence2 LED LongT5 M2M100 MBart MT5 Marian Mvp NllbMoe PLBart "
    "Pegasus PegasusX ProphetNet SeamlessM4T SeamlessM4Tv2 SwitchTransformers T5 T5Gemma T5Gemma2 UMT5"
)

for name, sections in SECTIONS.items():
    for section in sections:
        digits = [int(digit) for digit in section]
        width = 2 * sum(digits) * (2 if name == "Glm4vMoe" else 1)  # which rotates half of a head
        options = {"rope_parameters": {"mrope_section": digits}, "head_dim": width}
        VARIANTS[f"{name}TextModel{digits}"] = (f"{name}TextModel", options)
        EXCEPTIONS.setdefault(f"{name.removesuffix('Thinker')}TextConfig", options)
VARIANTS |= {f"{name}Model LEFT": (f"{name}Model", {}) for name in LEFT.split()}
VARIANTS |= {f"{name}Model.encoder": (f"{name}Model", {}) for name in ENCODERS.split()}


def labels(pattern):
    """Return the labels with a pattern of all text models of this transformers: classes that take tokens, and variants."""
    mappings = (modeling_auto.MODEL_MAPPING_NAMES, modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES)
    entries = [entry for mapping in mappings for entry in mapping.values()]
    names = {name for entry in entries for name in ([entry] if isinstance(entry, str) else entry)}
    names |= {name for name in dir(transformers) if re.fullmatch(TOWERS, name)}
    found = [label for label in sorted(names | VARIANTS.keys(), key=str.lower) if re.search(pattern, label)]
    return [label for label in found if label in VARIANTS or takes_tokens(label)]


def takes_tokens(name):
    try:
        return "input_ids" in signature(getattr(transformers, name).forward).parameters
    except (AttributeError, ImportError):  # in a mapping, and not in transformers, or only with another package
        return False


def small(name, value, layers):
    """Return a value of a configuration, made small by its name. `layers` are the layers that are kept of a longer model."""
    if name in ("out_features", "out_indices", "use_cache"):
        return False if name == "use_cache" else None
    if name == "per_layer_config":
        return {new: small("", value[old], layers) for new, old in enumerate(layers) if old in value}
    if name == "rope_parameters" and isinstance(value, dict) and {"rope_type", "rope_theta", "type"} & set(value):
        kept = {key: value[key] for key in ("rope_theta", "partial_rotary_factor", "mrope_interleaved") if key in value}
        sections = {"mrope_section": [2, 2, 4]} if "mrope_section" in value else {}
        return kept | sections | {"rope_type": "axial" if value.get("rope_type") == "axial" else "default"}
    if isinstance(value, dict):
        return {
            key: small(name if name == "rope_parameters" else str(key), entry, layers) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        if name in ("depths", "block_sizes"):
            return [1] * len(value)
        if name.endswith(("_layers", "_idxs")) and all(type(entry) is int and entry > 1 for entry in value):
            value = [entry for entry in value if entry < LAYERS]
        return [small(name, entry, ()) for entry in value]
    if name == "vocab_size":
        return VOCABULARY
    if type(value) is not int:
        return value
    if re.fullmatch(r"(.*_)?(token|pad)_(id|index)|.*_(eos|bos)_id", name):
        return value if value < VOCABULARY else next(token for word, token in TOKENS.items() if word in name)
    return next((min(value, size) for pattern, size in SIZES.items() if re.fullmatch(pattern, name)), value)


def kept_layers(values):
    """Return the number of layers, and the indices of four that have, as far as they can, every kind of layer."""
    names = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
    total = next((values[name] for name in names if values.get(name)), LAYERS)
    lists = [value for value in values.values() if isinstance(value, list | tuple) and len(value) == total]
    kinds = [str(kind) for kind in zip(*lists, strict=True)] or [""] * total
    firsts = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    return total, sorted([*firsts, *(layer for layer in range(total) if layer not in firsts)][:LAYERS])


def merged(values, options):
    """Return values with options put in, dictionaries entry by entry."""
    both = {name: merged(values[name] or {}, option) for name, option in options.items() if isinstance(option, dict)}
    return values | options | both


def shrunk(config_class, options=None):
    """Return the default configuration of a class with small numbers, and its parts likewise."""
    config = config_class()
    values = config.to_dict()
    total, layers = kept_layers(values)
    keys = [key for key in ("num_key_value_heads", "num_kv_heads") if key in values]
    ungrouped = {key: "num_attention_heads" for key in keys if values[key] == values.get("num_attention_heads")}
    for name, value in values.items():
        part = vars(config).get(name)
        if isinstance(part, transformers.PretrainedConfig):
            values[name] = shrunk(type(part)).to_dict()
        elif isinstance(value, list | tuple) and len(value) == total:
            values[name] = small(name, [value[layer] for layer in layers], layers)
        else:
            values[name] = small(name, value, layers)
    values |= {key: values[heads] for key, heads in ungrouped.items()}
    return config_class.from_dict(merged(merged(values, EXCEPTIONS.get(config_class.__name__, {})), options or {}))


def build(label, implementation):
    """Return the model of a label, with the same wide random weights every time."""
    name, options = VARIANTS.get(label, (label, {}))
    cls = getattr(transformers, name)
    config = shrunk(cls.config_class, options)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in cls._from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise MemoryError(f"{size / 1e6:.0f} million parameters are too many")
    torch.manual_seed(0)
    model = cls._from_config(shrunk(cls.config_class, options), attn_implementation=implementation)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and parameter.is_floating_point():
                inputs = parameter[0].numel() if "conv" in name else parameter.shape[-1]
                parameter.normal_(std=max(inputs, 1) ** -0.5)
            elif not parameter.any():
                parameter.normal_(std=0.2)  # biases and gates begin at zero, where they cannot be missed
    encoder = label.endswith((".encoder", ".enc"))
    return (model.get_encoder() if encoder else model).eval()


def inputs_of(model, label):
    """Return the padded batch of the oracle, on the left for labels that say so."""
    inputs = batch(model)
    if label.endswith("LEFT"):
        shift = inputs["attention_mask"].shape[1] - inputs["attention_mask"].sum(1)
        for name, rows in inputs.items():
            inputs[name] = torch.stack([row.roll(int(by)) for row, by in zip(rows, shift, strict=True)])
    return inputs


@contextmanager
def attention_temperature(temperature, shape):
    """Divide in every softmax of attention, as the oracle does, and leave others alone.

    Attention has a weight for each key, in the last dimension. A softmax over the experts or the labels of a batch of this
    shape (texts, tokens) is two-dimensional, or (texts, tokens, experts).
    """
    plain = torch.softmax
    with softmax_temperature(temperature):
        divided = torch.softmax

        def softmax(x, dim=None, **options):
            classes = x.ndim < 3 or (x.ndim == 3 and x.shape[:2] == shape and x.shape[2] != shape[1])
            of_keys = dim in (-1, x.ndim - 1) and not classes
            return (divided if of_keys else plain)(x, dim, **{key: options[key] for key in options if key == "dtype"})

        with (
            mock.patch("torch.nn.functional.softmax", softmax),
            mock.patch("torch.softmax", softmax),
            mock.patch("torch.Tensor.softmax", softmax),
        ):
            yield


def oracle(model, inputs, temperature):
    """Return what eager attention with a temperature gives: a number, one for each length, or one for each module."""
    if callable(temperature):  # text by text
        rows = [{name: value[[row]] for name, value in inputs.items()} for row in range(len(inputs["input_ids"]))]
        return torch.cat([oracle(model, row, temperature(row["attention_mask"].sum(1)).item()) for row in rows])
    softmax = partial(attention_temperature, shape=inputs["attention_mask"].shape)
    with mock.patch("support.oracle.softmax_temperature", softmax):
        return real(eager_output(model, inputs, temperature), inputs)


def reader_of(model):
    """Return what reads texts: the text encoder of a model of texts and images, or the model."""
    part = getattr(model, "text_model", None)
    return part if isinstance(part, transformers.PreTrainedModel) else model


def outputs(model, inputs):
    with torch.inference_mode():
        return real(model(**inputs)[0], inputs)


def distance(x, y):
    return (x - y).abs().max().item()


def stages(model, reader):
    """Patch a model in every way that is judged; yield what to call it and its temperature, None for the plain model."""
    with patch(model, UNIFORM[0]) as active:
        for temperature in UNIFORM:
            active.temperature = temperature
            yield f"at {temperature}", temperature
        active.temperature = 1.0
        yield "at 1", None
        active.temperature = BY_LENGTH
        yield "by length", BY_LENGTH
    with patch(model, UNIFORM[0], layers=-1) as active:
        names = {module: name for name, module in reader.named_modules()}
        yield "last layer", {names[site.module]: UNIFORM[0] for site in active.sites}
    yield "removed", None


def judge(label, implementation):
    """Return a dictionary: the verdict on a label in an attention implementation, why, largest error, smallest effect."""
    found = {"verdict": "build", "message": "", "error": 0.0, "effect": torch.inf}
    eager = None
    with noting(found, "build"):
        model, eager = build(label, implementation), build(label, "eager")
    if eager is None:
        return found
    reader, eager = reader_of(model), reader_of(eager)
    inputs, unfit = inputs_of(reader, label), {}
    with noting(unfit, "unfit"):
        plain, plain_eager = outputs(reader, inputs), outputs(eager, inputs)
        if not (plain.isfinite().all() and torch.equal(outputs(reader, inputs), plain)):
            return found | {"message": "the plain model overflows, or does not repeat itself"}
    faults, moved = [], True
    with noting(found, "crashed"):
        for stage, temperature in stages(model, reader):
            if unfit:
                return found | unfit | {"message": f"accepted, but {unfit['message']}"}
            output = outputs(reader, inputs)
            if temperature is None:
                faults += [] if torch.equal(output, plain) else [f"{stage}: not the plain model to the last bit"]
                continue
            expected, floor = oracle(eager, inputs, temperature), distance(plain, plain_eager)
            if callable(temperature):  # a text by itself is rounded otherwise
                floor = max(floor, distance(oracle(eager, inputs, torch.ones_like), plain_eager))
            error, effect = distance(output, expected), distance(expected, plain_eager)
            # Some models amplify rounding; what is not divided somewhere is a hundredth of the effect, or more.
            tolerance = max(5e-5 * max(1.0, expected.abs().max().item()), 3 * floor, 5e-4 * effect)
            moved &= effect > 5 * tolerance
            found |= {"error": max(error, found["error"]), "effect": min(effect, found["effect"])}
            if not error <= tolerance:
                faults.append(f"{stage}: off by {error:.2g}, effect {effect:.2g}, tolerance {tolerance:.2g}")
        found["verdict"] = "agree" if moved else "unmoved"
    if unfit and found["verdict"] == "unsupported":
        return found | unfit
    return found | ({"verdict": "WRONG", "message": "; ".join(faults)} if faults else {})


@contextmanager
def noting(found, verdict):
    """Note an exception as a verdict and a message: a refusal if it is of a documented kind and the package raised it."""
    try:
        yield
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001 - models and configurations raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        name, text = type(error).__name__, " ".join(str(error).split())
        if isinstance(error, ValueError | TypeError) and "tempscale" in Path(last.filename).parts:
            found |= {"verdict": "unsupported", "message": text}
        else:
            found |= {
                "verdict": verdict,
                "message": f"{name}: {text.split('. ')[0][:200]} ({Path(last.filename).name}:{last.lineno})",
            }


def row_of(label, seconds):
    """Return the row of a label: both implementations, and the time it took."""
    start, found = time.monotonic(), {}
    for implementation in IMPLEMENTATIONS:
        signal.alarm(seconds)
        try:
            found[implementation] = judge(label, implementation)
        except TimeoutError:
            found[implementation] = {
                "verdict": "build",
                "message": f"not done in {seconds} s",
                "error": 0.0,
                "effect": 0.0,
            }
        finally:
            signal.alarm(0)
    both = list(found.values())
    messages = dict.fromkeys(f"{one['verdict']}: {one['message']}" for one in both if one["message"])
    return {
        "label": label,
        "outcome": min((one["verdict"] for one in both), key=WORST_FIRST.index),
        **{implementation: one["verdict"] for implementation, one in found.items()},
        "error": f"{max(one['error'] for one in both):.2g}",
        "effect": f"{min(one['effect'] for one in both):.2g}".replace("inf", ""),
        "seconds": f"{time.monotonic() - start:.1f}",
        "message": " | ".join(messages),
    }


def read(path):
    """Return the rows of a table by label; none if there is no such file."""
    if not path or not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file)}


def faults_of(row, before):
    """Return what is wrong in a row: silent faults, and what agreed in an earlier row and does not now."""
    lost = [one for one in IMPLEMENTATIONS if before.get(one) == "agree" and row[one] in ("unsupported", "crashed")]
    return [f"{one} {row[one]}" for one in IMPLEMENTATIONS if row[one] == "WRONG" or one in lost]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="regular expression that is searched in labels")
    parser.add_argument("--output", type=Path, help="table to write; labels that it has are not run again")
    parser.add_argument("--against", type=Path, help="earlier table")
    parser.add_argument("--seconds", type=int, default=120, help="time limit of a label in one implementation")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)

    def too_slow(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_slow)
    start, known, earlier = time.monotonic(), read(options.output), read(options.against)
    chosen = labels(options.only)
    rows = {label: known[label] for label in chosen if label in known}
    for label in chosen:
        if label in rows:
            continue
        row = rows[label] = row_of(label, options.seconds)
        print(
            f"{label:40}{row['eager']:12}{row['sdpa']:12}{row['error']:>9}{row['effect']:>9}  {row['message']}",
            flush=True,
        )
        if options.output:
            is_new = not options.output.exists()
            with options.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
    counts = Counter(row["outcome"] for row in rows.values())
    print(
        f"\n{len(rows)} labels in {time.monotonic() - start:.0f} s:",
        ", ".join(f"{counts[one]} {one}" for one in WORST_FIRST),
    )
    faults = {label: found for label, row in rows.items() if (found := faults_of(row, earlier.get(label, {})))}
    for label, found in faults.items():
        print(f"FAULT {label}: {', '.join(found)}: {rows[label]['message']}")
    for label, row in earlier.items():
        unjudged = [
            one for one in IMPLEMENTATIONS if row[one] == "agree" and rows.get(label, {}).get(one, "build") in UNJUDGED
        ]
        if unjudged and re.search(options.only, label):
            print(f"NOT JUDGED {label}: {', '.join(unjudged)}: {rows.get(label, {}).get('message', 'no such label')}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
