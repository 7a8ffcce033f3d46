"""What the theme and the extensions give every page, and no page uses: most of two thousand icons, and many style rules.

They are taken out of the built site's files, which are written anew from the packages' own at the end of each build.
"""

import hashlib
import logging
import re
from functools import cache
from pathlib import Path

import myst_nb
import pydata_sphinx_theme
import sphinx_design
from fontTools.subset import Subsetter
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
SCRIPT = "scripts/fontawesome.js"
FONTS = "vendor/fontawesome/webfonts"
# name:[width,height,[other names],"code","outline"]
ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,(\[[^]]*\]),"[0-9a-f]+",(?:"[^"]*"|\[[^]]*\])\],?')
ICON_NAME = re.compile(r"\bfa-([a-z0-9-]+)")
DRAWN = re.compile(r'class="([^"]*\bfa-(?:solid|regular|brands)\b[^"]*)"')
GLYPH = re.compile(r"[\ue000-\uf8ff]|\\([ef][0-9a-f]{3})\b")
# a file of the site as pages name it, with the version by which browsers keep it
VERSIONED = re.compile(r'(_static/([^"?]+)\?(?:digest|v)=)[0-9a-f]+')
# smaller with the glyphs in use than their compressed form with all
WOFF2 = re.compile(r'url\([^)]*/fontawesome/[^)]*\) format\("woff2"\),')
# style sheet -> the rules that may be unused, and the names in them that a page or a script must have
STYLES = {
    THEME / "styles" / "pydata-sphinx-theme.css": (
        re.compile(r'(?:\.fa-[a-z0-9-]+:before,?)+\{content:"[^"]*"\}'),
        ICON_NAME,
    ),
    Path(sphinx_design.__file__).parent / "static" / "sphinx-design.min.css": (
        re.compile(r"(?<=[{}])[^{}@]*\.sd-[^{}]*\{[^{}]*\}"),
        re.compile(r"\bsd-[\w-]+"),
    ),
    # the colours of a terminal
    Path(myst_nb.__file__).parent / "static" / "mystnb.css": (
        re.compile(r"div\.highlight \.-Color\[[^{]*\{[^}]*\}\s*"),
        re.compile("-Color"),
    ),
}


def take_out(app: Sphinx, exception: Exception | None) -> None:
    """Write script, style sheets and fonts with what is used; connect to `build-finished`."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    static = site / "_static"
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html") if static not in path.parents}
    scripts = [path.read_text("utf-8") for path in static.rglob("*.js") if path.name != Path(SCRIPT).name]
    text = "\n".join([*pages.values(), *scripts])

    script = (THEME / SCRIPT).read_text("utf-8")
    refuse_unknown("\n".join(pages.values()), script)
    used = set(ICON_NAME.findall(text))
    (static / SCRIPT).write_text(ICON.sub(lambda icon: icon[0] if used & names(icon) else "", script), "utf-8")

    for path, (rule, name) in STYLES.items():
        style = WOFF2.sub("", used_rules(path.read_text("utf-8"), rule, name, text))
        for target in static.rglob(f"{path.stem}*.css"):  # the name may carry a hash
            target.write_text(style, "utf-8")

    sheets = [path.read_text("utf-8") for path in static.rglob("*.css")]
    glyphs = {int(found[1] or hex(ord(found[0])), 16) for sheet in sheets for found in GLYPH.finditer(sheet)}
    for path in (THEME / FONTS).glob("*.ttf"):
        write_glyphs(path, glyphs, static / FONTS / path.name)
    set_versions(pages, static)


def names(icon: re.Match[str]) -> set[str]:
    """All names of an icon of the script."""
    return {icon[1], *re.findall(r'"([^"]+)"', icon[2])}


def refuse_unknown(pages: str, script: str) -> None:
    """Stop where an icon of a page is not found in the script, whose form may have changed."""
    known = set().union(*map(names, ICON.finditer(script)))
    for classes in sorted(set(DRAWN.findall(pages))):
        if not known.intersection(ICON_NAME.findall(classes)):
            raise ExtensionError(
                f"The theme's {SCRIPT} has no icon {classes!r} that book/_ext/unused.py can read: "
                "correct the name, or ICON there if a new version of the theme writes its icons in another way."
            )


def used_rules(style: str, rule: re.Pattern[str], name: re.Pattern[str], text: str) -> str:
    """A style sheet without the rules that have in each of their selectors a name that the text has not."""
    used = set(name.findall(text))

    def kept(found: re.Match[str]) -> str:
        selectors = found[0].partition("{")[0].split(",")
        return found[0] if any(used.issuperset(name.findall(selector)) for selector in selectors) else ""

    return rule.sub(kept, style)


def write_glyphs(font: Path, glyphs: set[int], target: Path) -> None:
    """Write a font with these characters only."""
    with TTFont(font, recalcTimestamp=False) as opened:
        subsetter = Subsetter()
        subsetter.populate(unicodes=glyphs)
        subsetter.subset(opened)
        opened.save(target)


def set_versions(pages: dict[Path, str], static: Path) -> None:
    """Name each file of the site by a hash of what is in it now, or a browser would keep the icons of an older build."""

    @cache
    def version(name: str) -> str:
        return hashlib.sha256((static / name).read_bytes()).hexdigest()[:8]

    for path, page in pages.items():
        if (named := VERSIONED.sub(lambda found: found[1] + version(found[2]), page)) != page:
            path.write_text(named, "utf-8")


def register(app: Sphinx) -> None:
    """Connect to the end of a build, when every other extension has written its files."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it says what it does with each table of a font
    app.connect("build-finished", take_out, priority=900)
