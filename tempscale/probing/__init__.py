"""Real attention, read layer by layer.

Start with `probe`, which makes one table of all heads. The modules build on each other in this order: `attention_rows` (the
weights of one call, summed up a block of rows at a time), `capture` (a model runs, and each call is handed over), `probe`,
and `rate_matched`, which probes again and again until temperatures keep the filter rates.
"""
