"""Texts become embeddings, as an evaluation needs them: at many temperatures, fast, and the same to the last bit.

Start with `encoder`, which mteb calls. It builds on `prompts` (what a model's authors put before a text), `features` (a
batch of texts as sentence-transformers reads it), `tokens` (the same for many texts at once), `reading` (how texts are read:
which temperature, which pieces), `cutting` (long texts in pieces, in one file that a saved model takes along), `late` (pieces
of what was read at once), `pieces` (what becomes of the pieces' embeddings) and `batching` (tokens in batches, prepared while
the model runs).
"""
