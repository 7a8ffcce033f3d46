"""Which settings in a store differ from the baseline.

Start with `compare`. `matching` brings settings and baseline together on the same items, `held_out` repeats the choice of a
setting on other tasks, and `publish` writes what was compared for others to read.
"""
