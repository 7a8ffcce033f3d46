"""MTEB over temperatures.

An evaluation is a straight line: a `plan` (what is asked for) becomes jobs, `run_unit` has mteb run one of them, and `run`
puts what came out into the store, whoever ran it. Start with `evaluate`, which draws this line. `ray_runner` runs the same
jobs on a cluster.

Below the line stand `tasks`, `own_tasks` and `columns` (data), `identity` (which model is this?), `item_scores` (the scores
of single queries, caught on the way), `store` (where they are kept), `mteb_files` (the same as mteb's own files) and
`progress` (what is printed meanwhile).
"""
