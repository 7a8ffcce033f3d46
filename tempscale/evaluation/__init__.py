"""MTEB over temperatures.

An evaluation is a straight line: `plan` (what is asked for, as jobs), `run_unit` (one job: mteb encodes and scores), `run`
(results go to the store, whoever runs the jobs). Start with `evaluate`, which draws it. `ray_runner` runs the same jobs on a
cluster. Below them: `tasks` and `own_tasks` (data), `identity` (what model is this?), `item_scores` (the scores of single
queries, caught on the way), `store` (where they are kept), `progress` (what is printed).
"""
