"""Real attention, read layer by layer.

Start with `probe`, which makes one table of all heads. `capture` watches a model run and hands over each attention call,
`attention_rows` sums up its weights a block of rows at a time, and `rate_matched` probes again and again until temperatures
keep the filter rates.
"""
