"""Which differences are real: intervals, tests and corrections, with no knowledge of models or tasks.

Start with `paired`: settings against a baseline on the same items, resampled together. `intervals` has the interval of a
single statistic and Holm's correction, and comes first.
"""
