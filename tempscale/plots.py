"""One look for all figures, those of the book and those of the reports."""

# Okabe and Ito's palette: eight colours that people with any colour vision tell apart. Black comes last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def use_style() -> None:
    """Set the book's look for matplotlib figures.

    >>> use_style()
    >>> import matplotlib
    >>> matplotlib.rcParams["image.cmap"]
    'viridis'
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "axes.grid": True,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 120,
            "figure.facecolor": "white",
            "figure.figsize": (7.0, 3.6),
            "font.size": 10,
            "grid.alpha": 0.25,
            "image.cmap": "viridis",
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.bbox": "tight",
        }
    )
