"""The `tempscale` command. Nothing imports it.

Start with `app`; every subcommand that is longer than a page has a module of its own: `diagnose`, `spectrum`, `evaluate`,
`compare`. `shared` holds what they have in common, and `schedule_parser` reads temperatures as they are written.
"""
