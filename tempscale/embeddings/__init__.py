"""How embeddings lie on the sphere, what length does to that, and what can be done to them afterwards.

Start with `collapse`. The modules build on each other in this order: `geometry` (measures of a set of embeddings),
`collapse` (those by length, with intervals), `controls` (texts in which one thing is changed), `pooling` (how much of the
collapse is pooling), `cautions` (what about texts misleads a diagnosis), `diagnosis` (all of it for one model),
`diagnosis_page` (as one HTML page). `postprocess` stands alone: centring, whitening, all-but-the-top.
"""
