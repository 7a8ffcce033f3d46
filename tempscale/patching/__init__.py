"""A temperature goes into a model.

The logits of attention are divided by a temperature at one of three places, whichever a model allows:

1. a number that its attention multiplies the logits by (`sources.Number`);
2. the output of what makes its queries, and its tables of position biases (`exchange.TemperedOutput`, `TemperedTable`);
3. inside softmax itself, where no source of the logits can have the temperature (`exchange.TemperedAttention`).

Start with `patch`: it asks `proof` for the sites of a model and sets their temperature. The modules build on each other in
this order: `schedules` (temperatures), `exchange` (modules that divide), `sources` (where a model keeps what its logits are
proportional to), `recorder` (one small run, watched), `proof` (are the sources complete?), `patch`, `fold` (into weights).
"""
