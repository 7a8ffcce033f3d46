"""Which remedy helps on a user's own pairs of query and document, said with what it rests on.

Start with `advise`: it has the remedies measured by `tempscale.evaluate`, or by `ranking` on stored vectors, lets `choice`
choose on one half of the queries and judge on the other, and puts what came out into words (`words`). `evidence` is what
texts tell without pairs; `advice_page` makes one page of it all.
"""
