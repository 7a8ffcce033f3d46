"""MTEB over temperatures.

An evaluation is a straight line: a `plan` (what is asked for) becomes jobs; in `run` mteb runs one job after the other
(`run_unit`), and a sink puts what came out into the `store`. Start with `evaluate`, which draws this line. `ray_runner` runs
the same jobs on a cluster, into the same sink.

The modules build on each other in this order: `failures` (any exception in one sentence), `claims` (which process runs a
unit), `migration` (an older store), `store` (units, items, where they are kept), `columns`, `pair_files`, `own_tasks` and
`tasks` (data), `identity` (which model is this?), `plan`, `item_scores` (the scores of single queries, caught on the way),
`mteb_files` (results as mteb's own files), `progress` (what is printed meanwhile), `run`, `ray_runner`, `evaluate`.
"""
