"""Small models with random weights, a row per architecture: what the patch must do with each."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import transformers

# Weights so wide that attention is far from uniform: with logits near zero every temperature would be right.
COMMON = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.18,
    "pad_token_id": 1,
}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4}
DECODER = {"num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 2, "eos_token_id": 3}
GEMMA = {**DECODER, "query_pre_attn_scalar": 8}
# Options for what is costly in each layer, such as compilation: one layer that a schedule reaches, and one that it does not.
TWO_LAYERS = {"num_hidden_layers": 2, "num_layers": 2}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}


@dataclass
class Architecture:
    """A row: how the model is built, and which sources its logits have."""

    name: str
    cls: str
    sources: str
    options: dict[str, Any] = field(default_factory=dict)
    sites: int | None = 3
    implementations: tuple[str, ...] = ("sdpa", "eager", "flex_attention")

    def build(self, implementation: str | None = "eager", dtype: torch.dtype = torch.float32, **options: Any) -> Any:
        """Return the model in evaluation mode, the same weights every time; skip what this transformers has not.

        Without an implementation it is the one that transformers prefers: sdpa where the model has it.
        """
        if implementation is None and "sdpa" not in self.implementations:
            implementation = "eager"
        if implementation is not None and implementation not in self.implementations:
            pytest.skip(f"{self.name} is another model with {implementation} attention")
        cls = getattr(transformers, self.cls, None)
        if cls is None:
            pytest.skip(f"transformers {transformers.__version__} has no {self.cls}")
        torch.default_generator.manual_seed(0)
        given = {**COMMON, **self.options, **options}
        config = cls.config_class(**{key: value for key, value in given.items() if value is not None})
        try:
            model = cls._from_config(config, attn_implementation=implementation)
        except ValueError as error:
            pytest.skip(f"{self.cls} has no {implementation} attention in this transformers: {error}")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") and parameter.ndim == 1 and "norm" not in name.lower():
                    parameter.normal_(std=0.5)  # biases begin at zero, where they cannot be missed
        return model.eval().to(dtype)


ARCHITECTURES = [
    Architecture("BERT", "BertModel", "scaling"),
    Architecture("RoBERTa", "RobertaModel", "scaling"),
    Architecture("XLM-R", "XLMRobertaModel", "scaling"),
    Architecture("CamemBERT", "CamembertModel", "scaling"),
    Architecture("ELECTRA", "ElectraModel", "scaling"),
    Architecture("DistilBERT", "DistilBertModel", "scaling"),
    Architecture("ALBERT", "AlbertModel", "scaling", sites=1),
    Architecture("MPNet", "MPNetModel", "q, relative_attention_bias"),
    Architecture("DeBERTa v1", "DebertaModel", "softmax", DISENTANGLED),
    Architecture(
        "DeBERTa v2, v3", "DebertaV2Model", "query_proj", {**DISENTANGLED, "position_buckets": 8, "share_att_key": True}
    ),
    Architecture(
        "DeBERTa v2, own positions",
        "DebertaV2Model",
        "query_proj, pos_query_proj",
        {**DISENTANGLED, "position_buckets": 8},
    ),
    Architecture("T5", "T5EncoderModel", "scaling, relative_attention_bias", T5),
    Architecture("mT5", "MT5EncoderModel", "scaling, relative_attention_bias", T5),
    Architecture("UMT5", "UMT5EncoderModel", "scaling, relative_attention_bias", T5),
    Architecture("LongT5, local", "LongT5EncoderModel", "q, relative_attention_bias", {**T5, "local_radius": 3}),
    Architecture(
        "LongT5, global",
        "LongT5EncoderModel",
        "q, relative_attention_bias, global_relative_attention_bias",
        {**T5, "local_radius": 3, "encoder_attention_type": "transient-global", "global_block_size": 4},
    ),
    Architecture("ModernBERT", "ModernBertModel", "Wqkv", SPECIAL),
    Architecture("NomicBERT", "NomicBertModel", "scaling"),
    Architecture("GTE", "GteModel", "scaling"),
    Architecture("Jina v3", "JinaEmbeddingsV3Model", "scaling"),
    Architecture("EuroBERT", "EuroBertModel", "scaling", DECODER),
    Architecture("Qwen2", "Qwen2Model", "scaling", DECODER),
    Architecture("Qwen3", "Qwen3Model", "scaling", DECODER),
    Architecture("Mistral", "MistralModel", "scaling", DECODER),
    Architecture("Llama", "LlamaModel", "scaling", DECODER),
    Architecture(
        "Gemma 2",
        "Gemma2Model",
        "scaling, attn_logit_softcapping",
        {**GEMMA, "attn_logit_softcapping": 5.0},
        implementations=("eager", "flex_attention"),
    ),
    Architecture("Gemma 3", "Gemma3TextModel", "scaling", GEMMA),
    Architecture(
        "EmbeddingGemma",
        "Gemma3TextModel",
        "scaling",
        {**GEMMA, "use_bidirectional_attention": True, "sliding_window": 8},
    ),
    Architecture(
        "EmbeddingGemma 2",
        "EmbeddingGemma2Model",
        "scaling",
        {
            "text_config": {**COMMON, **DECODER, "hidden_size_per_layer_input": 8, "embedding_dim": 32},
            **dict.fromkeys(COMMON),
        },
    ),
    Architecture("CLIP", "CLIPTextModel", "scale", SPECIAL),
    Architecture("SigLIP", "SiglipTextModel", "scale", SPECIAL),
    Architecture("Longformer", "LongformerModel", "query, query_global", {"attention_window": 4}),
    Architecture(
        "BigBird, sparse",
        "BigBirdModel",
        "query",
        {"block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 128, "attention_type": "block_sparse"},
    ),
    Architecture("BigBird, full", "BigBirdModel", "query", {"attention_type": "original_full"}),
    Architecture("RoFormer", "RoFormerModel", "query"),
    Architecture("RemBERT", "RemBertModel", "query"),
    Architecture(
        "MobileBERT",
        "MobileBertModel",
        "scaling",
        {"embedding_size": 16, "intra_bottleneck_size": 16},
    ),
    Architecture("Megatron-BERT", "MegatronBertModel", "query"),
    Architecture("OPT", "OPTModel", "scaling", {"init_std": 0.18, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    Architecture("ESM", "EsmModel", "scaling", {"position_embedding_type": "rotary", "mask_token_id": 4}),
    Architecture("Bloom", "BloomModel", "inv_norm_factor, beta", {"n_layer": 3, "n_head": 4}),
    Architecture("MPT", "MptModel", "softmax", {"d_model": 32, "n_heads": 4, "n_layers": 3}),
    Architecture(
        "XLNet",
        "XLNetModel",
        "scale",
        {"max_position_embeddings": None, "d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48},
    ),
    Architecture(
        "SqueezeBERT",
        "SqueezeBertModel",
        "query",
        {
            "embedding_size": 32,
            "q_groups": 1,
            "k_groups": 1,
            "v_groups": 1,
            "post_attention_groups": 1,
            "intermediate_groups": 1,
            "output_groups": 1,
        },
    ),
    Architecture("Nystromformer", "NystromformerModel", "query", {"segment_means_seq_len": 64, "num_landmarks": 64}),
    Architecture(
        "LED",
        "LEDModel",
        "query, query_global",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "attention_window": 4,
        },
        sites=None,
    ),
]

# One architecture for each mechanism: these are tested in every implementation, dtype and kind of temperature.
FAMILIES = {
    "BERT": "a number of the attention module",
    "MPNet": "a projection to queries, and a table of position biases",
    "DeBERTa v1": "softmax, since a bias is added to fused queries",
    "DeBERTa v2, own positions": "projections to queries of tokens and of positions",
    "T5": "a number of the attention module, and a table of position biases",
    "ModernBERT": "a third of a fused projection",
    "Qwen3": "a number, or the normalisation of the queries; grouped queries",
    "Gemma 2": "a number and a soft cap",
    "Longformer": "projections to queries of local and of global attention",
}


def architecture(name: str) -> Architecture:
    """Return the row of a name."""
    return next(row for row in ARCHITECTURES if row.name == name)
