"""Figures for light and dark pages and for narrow screens.

The chapters' figures have no background (book/matplotlibrc) and dark lines and text. Here each gets a twin for dark
pages, in which greys are turned around: black becomes the colour of the page's text. Other colours stay unless they
are very dark, and so does everything on large opaque areas, such as black and white on a heat map.

On a phone the panels of a wide figure stand one below the other, each with its scale, also where they share one. What
cannot be cut, such as one wide panel or a legend between two, would stay whole in a box that scrolls: draw it narrower.
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
GAMMA = 2.2  # from the numbers of a colour to its light
DARKEST = 0.5  # the brightness that has a contrast of 4.5 with the page
GREYEST = 24  # the largest difference of a grey's three channels, of 255
AREAS = (25, 25), (61, 9), (9, 61)  # pixels: larger than any letter or marker, thicker than any line
WIDE = 620  # pixels: a phone would make the labels unreadable
GAP = 8  # pixels: at least so much is empty between two panels
LETTER = 40  # pixels: higher than any, lower than an axis
TICK = 14  # pixels: wider than the ticks of an axis, narrower than ticks with numbers
LONG = 0.4  # of the height: an axis, or a picture
OFF = 0.13  # of the width: how far from the middle, or from a third, the panels may meet


def turn_around(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (height, width, 4) pixels for a dark page.

    Black lines get the text's colour, coloured ones stay, but the darkest, which would not be seen, are lightened.
    """
    colours, alpha = pixels[..., :3].astype(float), pixels[..., 3]
    area = np.any([ndimage.grey_opening(alpha, size, mode="constant") == 255 for size in AREAS], axis=0)
    grey = (np.ptp(colours, axis=-1) < GREYEST) & ~area
    lightness = colours.mean(axis=-1, keepdims=True) / 255
    turned = np.where(grey[..., None], lightness * PAGE + (1 - lightness) * TEXT, colours)
    brightness = _brightness(colours)
    lack = (DARKEST - brightness) / (_brightness(np.array(TEXT)) - brightness)
    turned += np.where(grey | area, 0, np.clip(lack, 0, 1))[..., None] * (TEXT - turned)
    return np.concatenate([turned.round().astype(np.uint8), alpha[..., None]], axis=-1)


def _brightness(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of the grey that is as bright, from 0 to 1."""
    return ((colours / 255) ** GAMMA @ LUMINANCE) ** (1 / GAMMA)


def panels(pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """The panels of a picture of (height, width, 4) pixels, with their scales; none if it cannot be cut."""
    drawn = pixels[..., 3] > 0
    width = pixels.shape[1]
    gaps = [gap for gap in _runs(~drawn.any(axis=0)) if gap.stop - gap.start >= GAP]
    divisions = []
    for parts in (2, 3):
        near = [
            [gap for gap in gaps if abs((gap.start + gap.stop) / 2 / width - place) < OFF]
            for place in np.arange(1, parts) / parts
        ]
        # the first one: the next lies between a panel's label and its scale
        divisions += [[found[0] for found in near]] if all(near) else []
    return _with_scales(pixels, drawn, min(divisions, key=lambda cuts: _unequal(cuts, width))) if divisions else []


def _runs(marked: npt.NDArray[np.bool_]) -> list[slice]:
    """Where it is true, from one number to another."""
    return [run for (run,) in ndimage.find_objects(ndimage.label(marked)[0])]


def _unequal(cuts: list[slice], width: int) -> float:
    """How many times as wide as the narrowest panel the widest one is."""
    pieces = np.diff([0, *((cut.start + cut.stop) / 2 for cut in cuts), width])
    return float(pieces.max() / pieces.min())


def _with_scales(
    pixels: npt.NDArray[np.uint8], drawn: npt.NDArray[np.bool_], cuts: list[slice]
) -> list[npt.NDArray[np.uint8]]:
    """Cut, and give a panel that begins with its axis the scale of the panel before it."""
    starts, stops = [0, *(cut.stop for cut in cuts)], [*(cut.start for cut in cuts), pixels.shape[1]]
    made = []
    scale = pixels[:, :0]
    for start, stop in zip(starts, stops, strict=True):
        panel, ink = pixels[:, start:stop], drawn[:, start:stop]
        axis = int((ink.mean(axis=0) > LONG).argmax())  # 0 if no line is long: then nothing stands left of it
        axes = [run for run in _runs(ink[:, axis]) if run.stop - run.start > LETTER]
        top, end = (axes[0].start, axes[-1].stop) if axes else (0, len(panel))
        # beside the axis: a legend that sticks out above or below it is no scale
        if start and not ink[top:end, : max(axis - TICK, 0)].any():
            width = scale.shape[1]
            panel = np.pad(panel, ((0, 0), (width, 0), (0, 0)))
            beside = panel[:, axis : axis + width]
            np.copyto(beside, scale, where=beside[..., 3:] == 0)
            panel = panel[:, min(axis, width) :]
        else:
            scale = panel[:, :axis].copy()
            scale[: max(top - GAP, 0)] = scale[end + GAP :] = 0
        used = np.flatnonzero(panel[..., 3].any(axis=1))
        made.append(panel[max(used[0] - GAP, 0) : used[-1] + 1 + GAP])
    return made


def dress(app: Sphinx, doctree: nodes.document) -> None:
    """Box each figure that a cell drew, with its twin; connect to `doctree-read` before Sphinx collects images."""
    for image in list(doctree.findall(nodes.image)):
        file = Path(app.srcdir, image["uri"].lstrip("/"))
        if not (image["uri"].startswith("/") and file.suffix == ".png" and file.is_file()):
            continue
        with Image.open(file) as drawn:
            pixels = np.asarray(drawn.convert("RGBA"))
        size = "wide" if (wide := pixels.shape[1] > WIDE) else "small"
        # the theme makes this box a stop of the tabulator where it scrolls
        box = nodes.container(classes=["figure-box", size, "pst-scrollable-table-container"])
        image.replace_self(box)
        box += image
        if pixels[0, 0, 3] == 255:
            continue  # with a background: the theme frames it
        looks = {"light": pixels, "dark": turn_around(pixels)}
        cut = {scheme: panels(look) if wide else [] for scheme, look in looks.items()}
        kinds = ["whole"] if cut["light"] else []
        box["classes"] += ["cut"] if kinds else []
        plain = image.deepcopy()
        image["classes"] += ["only-light", *kinds]
        box += _saved(plain, file, looks["dark"], "dark", ["only-dark", *kinds])
        for scheme, pieces in cut.items():
            for number, panel in enumerate(pieces, 1):
                piece = _saved(plain, file, panel, f"{number}-{scheme}", [f"only-{scheme}", "panel"])
                piece["alt"] = f"Panel {number}. {image['alt']}"
                box += piece


def _saved(
    image: nodes.image, file: Path, pixels: npt.NDArray[np.uint8], ending: str, classes: list[str]
) -> nodes.image:
    """The image with other pixels, which are written beside its file."""
    made = file.with_name(f"{file.stem}-{ending}.png")
    Image.fromarray(pixels).save(made)
    copy = image.deepcopy()
    copy["uri"] = f"{Path(image['uri']).with_name(made.name)}"
    copy["classes"] += classes
    return copy


def register(app: Sphinx) -> None:
    """Add what this module adds to the book."""
    app.connect("doctree-read", dress, priority=400)
