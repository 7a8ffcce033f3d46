"""How embeddings lie on the sphere, what length does to that, and what can be done to them afterwards.

Start with `collapse`. The modules build on each other in this order: `geometry` (measures of a set of embeddings),
`collapse` (those by length, with intervals), `controls` (texts in which one thing is changed), `pooling` (how much of the
collapse is pooling), `cautions` (what about texts misleads a diagnosis), `diagnosis` (all of it for one model), `page` (HTML
that needs nothing else), `diagnosis_page` (the diagnosis as such a page).

For what is done about it start with `remedies`, which names it. `postprocess` has the steps on vectors, `sides` fits them
for queries and documents separately, and `serving` puts a remedy into a model.
"""
