"""Figures for light and dark pages, in a box that scrolls on a narrow screen.

The chapters' figures have no background (book/matplotlibrc) and dark lines and text. Here each gets a twin for dark
pages, in which greys are turned around: black becomes the colour of the page's text. Other colours stay unless they
are very dark, and so does everything on large opaque areas, such as black and white on a heat map.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from docutils import nodes
from PIL import Image
from scipy import ndimage
from sphinx.application import Sphinx

TEXT, PAGE = (206, 214, 221), (18, 18, 18)  # of the theme, when dark
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue
DARKEST = 0.12  # the luminance that has a contrast of 3 with the page
GREYEST = 24  # the largest difference of a grey's three channels, of 255
AREA = 25  # pixels: larger than any line, letter or marker
WIDE = 900  # pixels: two panels, whose labels a phone would make unreadable


def turn_around(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (height, width, 4) pixels for a dark page.

    Black lines get the text's colour, coloured ones stay, but the darkest, which would not be seen, are lightened.
    """
    colours, alpha = pixels[..., :3].astype(float), pixels[..., 3]
    area = ndimage.grey_opening(alpha, (AREA, AREA), mode="constant") == 255
    grey = (np.ptp(colours, axis=-1) < GREYEST) & ~area
    lightness = colours.mean(axis=-1, keepdims=True) / 255
    turned = np.where(grey[..., None], lightness * PAGE + (1 - lightness) * TEXT, colours)
    luminance = (colours / 255) ** 2.2 @ LUMINANCE
    lack = np.where(grey | area, 0, np.clip(1 - luminance / DARKEST, 0, 1))[..., None]
    turned += lack / 2 * (TEXT - turned)
    return np.concatenate([turned.round().astype(np.uint8), alpha[..., None]], axis=-1)


def dress(app: Sphinx, doctree: nodes.document) -> None:
    """Box each figure that a cell drew, with its twin; connect to `doctree-read` before Sphinx collects images."""
    for image in list(doctree.findall(nodes.image)):
        file = Path(app.srcdir, image["uri"].lstrip("/"))
        if not (image["uri"].startswith("/") and file.suffix == ".png" and file.is_file()):
            continue
        with Image.open(file) as drawn:
            pixels = np.asarray(drawn.convert("RGBA"))
        kind = "wide" if pixels.shape[1] > WIDE else "narrow"
        # the theme makes this box a stop of the tabulator where it scrolls
        box = nodes.container(classes=["figure-box", kind, "pst-scrollable-table-container"])
        image.replace_self(box)
        box += image
        if pixels[0, 0, 3] == 255:
            continue  # with a background: the theme frames it
        twin = file.with_name(f"{file.stem}-dark.png")
        Image.fromarray(turn_around(pixels)).save(twin)
        dark = image.deepcopy()
        dark["uri"] = f"{Path(image['uri']).with_name(twin.name)}"
        image["classes"] += ["only-light"]
        dark["classes"] += ["only-dark"]
        box += dark


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.connect("doctree-read", dress, priority=400)
