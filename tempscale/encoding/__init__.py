"""Texts become embeddings, as an evaluation needs them: at many temperatures, fast, and the same to the last bit.

Start with `encoder`, which mteb calls. It builds on `prompts` (what a model's authors put before a text), `reading` (how
texts are read: which temperature, which pieces), `cutting` (a batch of texts as sentence-transformers reads it, and long
texts in pieces: one file that a saved model takes along), `pieces` (what becomes of the pieces' embeddings), `tokens` (the
tokens of many texts at once) and `batching` (these in batches, prepared while the model runs).
"""
