"""The `tempscale` command. Nothing imports it.

Start with `app`. It builds on the subcommands that are longer than a page, `samples`, `diagnose`, `advise`, `spectrum`,
`evaluate` and `compare`; these on `shared`, what they have in common; and this on `schedule_parser`, which reads
temperatures as they are written.
"""
