"""One self-contained HTML page: tables and figures with captions, no script, no network, texts escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from tempscale.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def page(title: str, parts: Sequence[str]) -> str:
    """Return a page with a title and parts, which are HTML."""
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def table_of(caption: str, table: "pd.DataFrame") -> str:
    """Return a table with a caption; its first column heads the rows. Cells are escaped by pandas."""
    import pandas as pd

    first = table.columns[0]
    with pd.option_context("display.max_colwidth", None):
        text = table.set_index(first).rename_axis(index=None, columns=first).to_html(border=0)
    head, body = text.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1).split("<tbody>")
    text = head.replace("<th>", '<th scope="col">') + "<tbody>" + body.replace("<th>", '<th scope="row">')
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">{text}</div>'


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Return terms with their meanings."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in pairs) + "</dl>"


@style()
def drawn(figure: "Figure", caption: str, description: str) -> str:
    """Return a figure with its caption, and its description for those who do not see it."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    image = f'<img src="data:image/svg+xml;base64,{encoded}" alt="{escape(description)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1 {{ line-height: 1.2; overflow-wrap: anywhere; }}
.answer {{ font-size: 1.25rem; font-weight: 600; }}
li {{ margin: 0 0 .6rem; overflow-wrap: anywhere; }}
code {{ background: #f3f3f3; padding: .1rem .3rem; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption, caption {{ text-align: left; color: #444; padding: .4rem 0; }}
.scroll {{ overflow-x: auto; margin: 2rem 0; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }}
td {{ font-variant-numeric: tabular-nums; }}
details td {{ white-space: nowrap; }}
th[scope=row] {{ font-weight: normal; min-width: 9rem; overflow-wrap: anywhere; }}
.warning {{ border-left: .3rem solid #b35900; background: #fff4e5; padding: .5rem .8rem; overflow-wrap: anywhere; }}
dt {{ font-weight: 600; }}
dd {{ margin: 0 0 .5rem; overflow-wrap: anywhere; }}
@media (max-width: 40rem) {{
  table {{ font-size: .8rem; }}
  th, td {{ padding-right: .4rem; }}
  th[scope=row] {{ min-width: 4rem; }}
}}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
