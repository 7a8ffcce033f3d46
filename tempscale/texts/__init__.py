"""Where texts come from.

Start with `docstrings`, the texts of installed packages, which need no download. `files`, a user's own texts, stands beside
it; neither builds on the other.
"""
