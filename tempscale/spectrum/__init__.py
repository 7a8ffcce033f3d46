"""Attention in the frequency domain: token signals, filter rates, and the laws that they follow on random logits.

Start with `signals`: DC and HC of a signal, and `filter_rate`, the definition of sigma_a for a matrix that is at hand.
`from_queries_keys` finds the same number of a whole batch of heads from their queries and keys, without storing long
matrices; `lanczos` holds the algebra, and the choice between a short text's whole matrix and an iteration for a long one.
`laws` stands alone: a published bound and the laws that hold, each with its hypotheses.
"""
