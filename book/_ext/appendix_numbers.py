"""Numbers of the appendix: its first figure is Fig. A.1, as no chapter's is.

Sphinx counts figures and theorems of pages without a chapter's number through the whole book: Fig. 2 would follow the
opening page's Fig. 1. What it counted is kept beside the numbers with a letter, since pages whose numbers are not those
of the last build are written again.
"""

from copy import deepcopy

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

LETTER = "A"


def put_back(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Show Sphinx what it counted in the last build; connect to `env-get-updated`, before it counts."""
    env.tempscale_lettered, env.toc_fignumbers = env.toc_fignumbers, getattr(env, "tempscale_counted", {})
    return []


def renumber(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give what is counted on pages without a number the letter; connect to `env-get-updated`, after Sphinx has counted."""
    env.tempscale_counted = deepcopy(env.toc_fignumbers)
    pages = [
        page
        for page in env.toc_fignumbers
        if page != env.config.root_doc and not env.toc_secnumbers.get(page, {}).get("")
    ]
    for kind in {kind for page in pages for kind in env.toc_fignumbers[page]}:
        labels = [
            (numbers[label][-1], page, label)
            for page in pages
            for numbers in [env.toc_fignumbers[page].get(kind, {})]
            for label in numbers
        ]
        for at, (_, page, label) in enumerate(sorted(labels), start=1):
            env.toc_fignumbers[page][kind][label] = (LETTER, at)
    return [page for page in pages if env.toc_fignumbers[page] != env.tempscale_lettered.get(page)]


def register(app: Sphinx) -> None:
    """Connect both around Sphinx's own counting."""
    app.connect("env-get-updated", put_back, priority=100)
    app.connect("env-get-updated", renumber, priority=900)
