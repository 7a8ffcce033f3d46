"""The `tempscale` command, a module for each subcommand; start with `app`. Nothing imports it.

`shared` holds what the commands have in common, `schedule_parser` reads temperatures as they are written.
"""
