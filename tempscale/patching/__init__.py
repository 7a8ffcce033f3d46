"""A temperature goes into a model.

The logits of attention are divided by a temperature at one of three places, or at the first two together, whichever a model
allows:

1. a number that its attention multiplies the logits by (`sources.NumberSource`);
2. the output of what makes its queries, and its tables of position biases (`sources.OutputSource`, which puts
   `exchange.TemperedOutput` and `TemperedTable` there);
3. inside softmax itself, where no source of the logits can have the temperature (`sources.SoftmaxSource`, which puts
   `exchange.TemperedAttention` there).

Start with `patch.Patch.set_temperature`: it asks `proof` for the sites of a model and divides their sources. The modules
build on each other in this order: `schedules` (temperatures), `written` (the same in one line of text), `layers` (which
layers get them), `exchange` (modules that divide), `sources` (what the logits of a model are proportional to), `survey`
(which softmax is attention, seen below Python), `recorder` (a small run, watched), `proof` (are the sources complete?),
`patch`, `fold` (into weights).
"""
