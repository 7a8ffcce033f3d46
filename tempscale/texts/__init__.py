"""Where texts come from: `docstrings` of the installed packages, which need no download, or a user's own `files`."""
