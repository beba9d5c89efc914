"""Pictures of the first image of every task: a slider between any two, zoomed crops, error maps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as esc

import numpy as np

from pnpkit.bench.report import pictures
from pnpkit.bench.report.digest import Digest, Entry, Place
from pnpkit.bench.report.parts import digits, fold
from pnpkit.bench.store import Store
from pnpkit.errors import DataError

SHOWN = 60  # pictures of methods on a page, at most: they are what makes it large


@dataclass(frozen=True)
class Shown:
    """Data URLs of pictures and error maps by their names, the truth first, and the name of a method in first place."""

    place: Place
    images: dict[str, str]
    errors: dict[str, str]
    best: str


def gallery(d: Digest, store: Store) -> str:
    """The first image of every task: a slider between any two pictures, zoomed crops, error maps."""
    budget, parts = SHOWN, []
    for place in d.places:
        entries = d.of(place)
        if budget < len(entries):
            parts.append(f"<p class=note>{esc(place[1])}: left out, the page would grow too large.</p>")
            continue
        found = _pictures(d, store, place, entries)
        if found.errors:
            parts.append(_gallery(found))
            budget -= len(entries)
    note = (
        "Choose two pictures and move the slider. The crops follow the pointer over the picture, or the arrow keys "
        "when they have the focus. Errors are five times the absolute difference."
    )
    return f"<p class=note>{note}</p>{''.join(parts)}" if parts else ""


def _pictures(d: Digest, store: Store, place: Place, entries: Sequence[Entry]) -> Shown:
    images: dict[str, str] = {}
    errors: dict[str, str] = {}
    best, peak = "", d.ranges[place[0]]
    for e in entries:
        cell = e.cells[0]
        try:
            truth, image = store.get(cell["truth"]), store.get(cell["image_name"])
            if "truth" not in images:
                images["truth"] = pictures.data_url(pictures.shown(truth, peak))
                y = store.get(cell["y"])
                if y.ndim == 3 and y.shape[0] == truth.shape[0] and not np.iscomplexobj(y):
                    images["measurement"] = pictures.data_url(pictures.shown(y, peak))
            name = f"{e.method}: {cell['metrics'][d.metrics[0]]:.{digits(d.metrics[0])}f}"
            images[name] = pictures.data_url(pictures.shown(image, peak))
            errors[name] = pictures.data_url(pictures.error(image, truth, peak))
            best = name if e.first else best
        except DataError:
            continue
    return Shown(place, images, errors, best)


def _gallery(found: Shown) -> str:
    names = list(found.images)
    title = esc(f"{found.place[0]}, {found.place[1]}")

    def select(label: str, chosen: str) -> str:
        options = "".join(f"<option{' selected' if n == chosen else ''}>{esc(n)}</option>" for n in names)
        return f"<label>{label} <select>{options}</select></label> "

    crops = "".join(
        f"<figure><div class=crop role=img aria-label='zoomed crop, {esc(n, quote=True)}' "
        f"style=\"background-image:url('{u}')\"></div><figcaption>{esc(n)}</figcaption></figure>"
        for n, u in found.images.items()
    )
    errors = "".join(
        f"<figure><img alt='error, {esc(n, quote=True)}' src='{u}'><figcaption>{esc(n)}</figcaption></figure>"
        for n, u in found.errors.items()
    )
    data = json.dumps(found.images).replace("</", "<\\/")
    return (
        f"<h3>{title}</h3><div class=gallery><script type=application/json>{data}</script>"
        f"<div><p>{select('left', names[1])}{select('right', found.best)}</p>"
        "<div class=compare><img class=under alt=''><div class=over><img alt=''></div><input type=range min=0 max=100 "
        f"value=50 aria-label='how much of the left picture is shown: {title}'></div></div>"
        "<div class=crops tabindex=0 aria-label='zoomed crops; arrow keys move "
        f"them'>{crops}</div></div>{fold('error maps', f'<div class=pictures>{errors}</div>')}"
    )
