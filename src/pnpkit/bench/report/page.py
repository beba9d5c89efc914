"""The page: sections of HTML from a digest. Everything is inside the file; nothing is fetched."""

import itertools
import json
from html import escape as esc
from pathlib import Path
from typing import Any

from pnpkit import __version__
from pnpkit.bench.report import svg
from pnpkit.bench.report.digest import Digest, Entry, pair
from pnpkit.bench.report.gallery import gallery
from pnpkit.bench.report.parts import digits, fold, pre
from pnpkit.bench.statistics import Difference, Interval, sign
from pnpkit.bench.store import Store

HERE = Path(__file__).parent
SECTIONS = {
    "leaderboard": "Leaderboard", "tradeoffs": "Trade-offs", "tasks": "Tasks", "pairs": "Pairs", "pictures": "Pictures",
    "curves": "Convergence", "calibration": "Calibration", "tuning": "Tuning", "gaps": "Skipped and failed",
    "reproduce": "Reproduce",
}  # fmt: skip


def page(d: Digest, store: Store) -> str:
    """The whole page."""
    bodies = {
        "leaderboard": leaderboard(d), "tradeoffs": tradeoffs(d), "tasks": tasks(d), "pairs": pairs(d),
        "pictures": gallery(d, store), "curves": curves(d), "calibration": calibration(d), "tuning": tuning(d),
        "gaps": gaps(d), "reproduce": reproduce(d, store),
    }  # fmt: skip
    kept = {k: v for k, v in bodies.items() if v}
    nav = "".join(f"<a href='#{k}'>{SECTIONS[k]}</a>" for k in kept)
    body = "".join(
        f"<section id={k} aria-label='{SECTIONS[k]}'><h2>{SECTIONS[k]}</h2>{v}</section>" for k, v in kept.items()
    )
    cells = sum(len(e.cells) for e in d.entries)
    about = f"{cells} cells of {len(d.methods)} methods on {len(d.places)} tasks; pnpkit {__version__}"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{esc(d.suite)}: benchmark</title><style>{(HERE / 'style.css').read_text()}</style></head>"
        f"<body><header><h1>{esc(d.suite)}</h1><button id=theme aria-label='Switch colours'>light / dark</button>"
        f"<p class=note>{about}</p><nav aria-label='Sections'>{nav}</nav></header><main>{body}</main>"
        f"<script>{(HERE / 'script.js').read_text()}</script></body></html>"
    )


# --- leaderboard ---


def leaderboard(d: Digest) -> str:
    names = ["data", "task", "method", "place", *d.metrics, f"{d.metrics[0]} − {d.baseline}", "better / worse"]
    names += ["prior calls", "operator calls", "seconds", "MiB"]
    texts = {"data", "task", "method"}
    head = "".join(f"<th scope=col{' class=text' if n in texts else ''}><button>{esc(n)}</button></th>" for n in names)
    rows = "".join(_row(d, e) for place in d.places for e in d.of(place))
    options = {k: list(dict.fromkeys(getattr(e, k) for e in d.entries)) for k in ("data", "task")}
    selects = "".join(
        f"<label>{k}<select data-column={k}><option value=''>all</option>"
        + "".join(f"<option>{esc(o)}</option>" for o in v)
        + "</select></label>"
        for k, v in options.items()
    )
    ways = ", ".join(f"{m}: {'higher' if sign(m) > 0 else 'lower'} is better" for m in d.metrics)
    note = (
        f"Means over images with 95 % bootstrap intervals; differences are paired, image by image, against "
        f"{esc(d.baseline)}, with the two-sided sign test's p. Methods share a place where the interval of "
        f"their difference in {d.metrics[0]} holds zero: they are not told apart. {ways}."
    )
    return (
        f"<p class=note>{note}</p><div class=filters>{selects}<label>method<input data-column=method type=search "
        "placeholder='part of a name'></label><output id=count aria-live=polite></output></div>"
        f"<div class=scroll><table class=sortable id=leaderboard><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        "</table></div>"
    )


def _row(d: Digest, e: Entry) -> str:
    data = " ".join(f"data-{k}='{esc(getattr(e, k), quote=True)}'" for k in ("data", "task", "method"))
    failed = f" <small class=bad>{len(e.failed)} failed</small>" if e.failed else ""
    cells = [f"<td class=text>{esc(e.data)}</td>", f"<td class=text>{esc(e.task)}</td>"]
    cells += [f"<td class=text>{esc(e.method)}{failed}</td>", _td(e.rank.split("–")[0], e.rank)]
    cells += [_td(e.metrics[m].mean, _interval(e.metrics[m], digits(m))) for m in d.metrics]
    gap = e.against.get(d.metrics[0])
    if gap is None or e.method == d.baseline:
        cells += [_td("", ""), _td("", "")]
    else:
        cells.append(_td(gap.interval.mean, _signed(gap, digits(d.metrics[0]))))
        cells.append(_td(gap.wins - gap.losses, f"{gap.wins} / {gap.losses} <small>p {gap.p:.2g}</small>"))
    network = e.calls.get("prior")
    others = [v for k, v in e.calls.items() if k != "prior"]
    cells.append(_td(*(("", "") if network is None else (network, f"{network:.0f}"))))
    cells.append(_td(*((sum(others), f"{sum(others):.0f}") if others else ("", ""))))
    cells.append(_td(e.seconds, f"{e.seconds:.3g}"))
    cells.append(_td(*(("", "") if e.memory is None else (e.memory, f"{e.memory:.0f}"))))
    return f"<tr {data}{' class=first' if e.first else ''}>{''.join(cells)}</tr>"


def _td(value: Any, text: str) -> str:
    return f"<td data-value='{value}'>{text}</td>"


def _interval(i: Interval, n: int) -> str:
    return f"{i.mean:.{n}f} <small>[{i.low:.{n}f}, {i.high:.{n}f}]</small>"


def _signed(gap: Difference, n: int) -> str:
    i = gap.interval
    return f"{i.mean:+.{n}f} <small>[{i.low:+.{n}f}, {i.high:+.{n}f}]</small>"


# --- plots ---


def tradeoffs(d: Digest) -> str:
    metric, high = d.metrics[0], sign(d.metrics[0]) > 0
    figures = []
    for place in d.places:
        entries = d.of(place)
        quality = {e.method: e.metrics[metric].mean for e in entries}
        costs = {"seconds": [(e.method, e.seconds) for e in entries if e.seconds > 0]}
        costs["prior calls"] = [(e.method, max(e.calls.get("prior", 0), 0.5)) for e in entries]
        for label, points in costs.items():
            if len(points) < 2:
                continue
            title = f"{place[1]}: {metric} against {label}"
            axis = f"{label} (log{'; none is drawn at 0.5' if label != 'seconds' else ''})"
            marks = [(d.methods.index(m), m, c, quality[m]) for m, c in points]
            figures.append(_figure(svg.tradeoff(marks, axis, metric, title, high), title))
    note = "Dashed: the best that can be had at its cost. Point at a circle for its name."
    return svg.legend(d.methods) + f"<p class=note>{note}</p><div class=grid>{''.join(figures)}</div>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{esc(caption)}</figcaption></figure>"


def tasks(d: Digest) -> str:
    figures = []
    for place, metric in itertools.product(d.places, d.metrics[:2]):
        values = [(d.methods.index(e.method), e.method, e.metrics[metric]) for e in d.of(place)]
        title = f"{place[0]}, {place[1]}: {metric} with 95 % intervals"
        figures.append(_figure(svg.bars(values, metric, title), title))
    return f"<div class=grid>{''.join(figures)}</div>"


def pairs(d: Digest) -> str:
    """Every method against the baseline, image by image; and how often each beats each."""
    metric = d.metrics[0]
    figures = []
    for place in d.places:
        entries = d.of(place)
        base = next((e for e in entries if e.method == d.baseline), None)
        if base is None or len(entries) < 2:
            continue
        known = {(c["image"], c["seed"]): c["metrics"][metric] for c in base.cells}
        series = []
        for method in d.methods:
            entry = next((e for e in entries if e.method == method and e is not base), None)
            cells = [] if entry is None else entry.cells
            at = [
                (known[c["image"], c["seed"]], c["metrics"][metric]) for c in cells if (c["image"], c["seed"]) in known
            ]
            series.append((method, at))
        title = f"{place[1]}: {metric} of every image, against {d.baseline}"
        figures.append(_figure(svg.scatter(series, d.baseline, metric, title), title))
    return f"{svg.legend(d.methods)}<div class=grid>{''.join(figures)}</div>{_wins(d)}" if figures else ""


def _wins(d: Digest) -> str:
    """Tasks on which the row's method is clearly better than the column's."""
    metric = d.metrics[0]
    head = "".join(f"<th scope=col>{esc(m)}</th>" for m in d.methods)
    rows = []
    for a in d.methods:
        cells = []
        for b in d.methods:
            wins = total = 0
            for place in d.places:
                found = {e.method: e for e in d.of(place)}
                if a == b or a not in found or b not in found:
                    continue
                gap = pair(found[a], found[b], metric)
                up = gap is not None and gap.clear and sign(metric) * gap.interval.mean > 0
                wins, total = wins + bool(up), total + 1
            cells.append("<td>·</td>" if a == b or not total else f"<td>{wins} of {total}</td>")
        rows.append(f"<tr><th scope=row class=text>{esc(a)}</th>{''.join(cells)}</tr>")
    caption = f"Tasks on which the row's method is clearly better in {metric} than the column's (interval without zero)"
    return f"<div class=scroll><table><caption>{caption}</caption><tr><td></td>{head}</tr>{''.join(rows)}</table></div>"


def curves(d: Digest) -> str:
    figures = []
    for place in d.places:
        series = [
            (m, next((c["trace"] for e in d.of(place) if e.method == m for c in e.cells if c.get("trace")), []))
            for m in d.methods
        ]
        if any(len(row) > 1 for _, row in series):
            title = f"{place[1]}: {d.metrics[0]} of the first image against seconds"
            figures.append(_figure(svg.lines(series, "seconds", d.metrics[0], title), title))
    return f"{svg.legend(d.methods)}<div class=grid>{''.join(figures)}</div>" if figures else ""


def calibration(d: Digest) -> str:
    """Share of pixels inside central intervals of the samples, over their level; the diagonal is perfect."""
    figures = []
    for place in d.places:
        series = []
        for method in d.methods:
            rows = [c["coverage"] for e in d.of(place) if e.method == method for c in e.cells if c.get("coverage")]
            levels = [p[0] for p in rows[0]] if rows else []
            series.append((method, [[level, sum(r[i][1] for r in rows) / len(rows)] for i, level in enumerate(levels)]))
        if any(row for _, row in series):
            title = f"{place[1]}: share of pixels inside intervals of the samples"
            figures.append(_figure(svg.lines(series, "level of the interval", "share inside", title, True), title))
    return f"{svg.legend(d.methods)}<div class=grid>{''.join(figures)}</div>" if figures else ""


# --- words ---


def tuning(d: Digest) -> str:
    rows = []
    for s in d.searches:
        edge = (
            f" <span class=bad>at the edge of what was offered: {', '.join(s['at_edge'])}</span>"
            if s["at_edge"]
            else ""
        )
        failed = sum(1 for _, v, _ in s["tried"] if v is None)
        tried = f"{len(s['tried'])}{f', {failed} failed' if failed else ''}"
        settings = esc(
            ", ".join(f"{k} = {v:g}" if isinstance(v, float) else f"{k} = {v}" for k, v in s["settings"].items())
        )
        cells = (s["data"], s["task"], s["method"])
        rows.append(
            "<tr>" + "".join(f"<td class=text>{esc(c)}</td>" for c in cells)
            + f"<td class=text>{settings}{edge}</td><td>{tried}</td><td>{s['images']}</td><td>{s['metric']}</td></tr>"
        )  # fmt: skip
    if not rows:
        return ""
    head = "".join(f"<th scope=col>{n}</th>" for n in ("data", "task", "method", "chosen", "tried", "images", "by"))
    note = "Chosen on validation images alone; the test images of the leaderboard were not seen."
    return f"<p class=note>{note}</p><div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def gaps(d: Digest) -> str:
    parts = []
    if d.skipped:
        told = (f"{s['method']} on {s['task']}: {s['reason']}" for s in d.skipped)
        parts.append(f"<h3>Skipped: the parts do not fit</h3><ul>{''.join(f'<li>{esc(t)}</li>' for t in told)}</ul>")
    if d.failed:
        items = []
        for f in d.failed:
            head = (
                f"{esc(f['method'])} on {esc(f['task'])}, image {f['image']}: <span class=bad>{esc(f['reason'])}</span>"
            )
            items.append(f"<li>{fold(head, pre(f.get('traceback') or 'no traceback'))}</li>")
        parts.append(f"<h3>Failed</h3><ul>{''.join(items)}</ul>")
    return "".join(parts)


def reproduce(d: Digest, store: Store) -> str:
    used = dict.fromkeys(c["environment"] for e in d.entries for c in e.cells)
    machines = [fold(f"environment {n}", pre(json.dumps(d.environments.get(n, {}), indent=1))) for n in used]
    command = f"pnpkit bench {d.suite} --store {store.folder}"
    cells = "".join(_cell_command(e, command) for e in d.entries if e.cells)
    warn = "<p class=note>Cells were run in several environments: their times cannot be compared.</p>"
    parts = [pre(command), warn if len(used) > 1 else "", *machines, fold("every method on every task", cells)]
    return "".join(parts)


def _cell_command(e: Entry, command: str) -> str:
    one = f"{command} --data '{e.data}' --task '{e.task}' --method '{e.method}'"
    spec = json.dumps(e.cells[0]["spec"], indent=1, default=str)
    return fold(f"{esc(e.method)} on {esc(e.task)}", pre(one) + pre(spec))
