"""Which differences are real: intervals, tests and corrections, with no knowledge of models or tasks.

Start with `paired`: settings against a baseline on the same items, resampled together. It builds on `intervals`: the
interval of a single statistic, Holm's correction, and how many items a difference needs; on `influence`: how much an item
moves a statistic; and on `clusters`: which items belong together, and what that does to a variance. `within` compares inside
groups of items, and `prediction` says what to expect of another task.
"""
