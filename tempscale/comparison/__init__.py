"""Which settings in a store differ from the baseline.

Start with `compare`. It builds on `matching` (settings and baseline on the same items) and on `held_out` (the choice of a
setting, repeated on other tasks); `matrix` puts its rows into a table of tasks by settings, and `publish` writes what was
compared for others to read.
"""
