"""Texts become embeddings, as an evaluation needs them: at many temperatures, fast, and the same to the last bit.

Start with `encoder`, which mteb calls. It builds on `prompts` (what a model's authors put before a text), `features` (a
batch of texts as sentence-transformers reads it), `tokens` (the same for many texts at once), `pieces` (long texts in parts)
and `batching` (tokens in batches, prepared while the model runs).
"""
