"""Plots as SVG: no library in the page, readable by screen readers through their titles."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pnpkit.bench.statistics import Interval

COLOURS = ("#2266cc", "#cc5522", "#228844", "#9944aa", "#887722", "#0e8a9b", "#b23a6e", "#5b6b7a")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 270, 52, 14, 12, 40


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


@dataclass(frozen=True)
class Axis:
    """A range of values and how it is spread."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], log: bool = False, room: float = 0.06) -> "Axis":
        """A range that holds all values, with room on both sides."""
        low, high = min(values), max(values)
        if log:
            low, high = max(low, 1e-6), max(high, 1e-6)
            wide = max((high / low) ** room, 1.15)
            return cls(low / wide, high * wide, True)
        wide = max((high - low) * room, 1e-3 * max(abs(high), 1e-9), 1e-9)
        return cls(low - wide, high + wide)

    def at(self, value: float) -> float:
        """0 to 1."""
        if self.log:
            return math.log(max(value, 1e-12) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5) if self.low <= m * 10.0**p <= self.high]
            return found if len(found) <= 7 else [t for t in found if f"{t:e}"[0] == "1"] or found[::2]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 3))
        step *= next((m for m in (1, 2, 5, 10) if (self.high - self.low) / (m * step) <= 6), 10)
        first = math.ceil(self.low / step)
        return [round(k * step, 12) for k in range(first, math.floor(self.high / step) + 1)]


def frame(x: Axis, y: Axis, xlabel: str, ylabel: str, inside: Callable[[Callable, Callable], str], title: str) -> str:
    """Axes with ticks, and what ``inside`` draws by the two functions from values to pixels."""

    def across(v: float) -> float:
        return LEFT + x.at(v) * (WIDTH - LEFT - RIGHT)

    def down(v: float) -> float:
        return HEIGHT - BOTTOM - y.at(v) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f"<line class=axis x1={LEFT} x2={WIDTH - RIGHT} y1={down(t):.1f} y2={down(t):.1f} />"
        f"<text x={LEFT - 6} y={down(t) + 4:.1f} text-anchor=end>{t:g}</text>"
        for t in y.ticks()
    ]
    parts += [f"<text x={across(t):.1f} y={HEIGHT - BOTTOM + 16} text-anchor=middle>{t:g}</text>" for t in x.ticks()]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f"<text x={middle:.0f} y={HEIGHT - 6} text-anchor=middle>{html.escape(xlabel)}</text>")
    parts.append(
        f"<text x=12 y={HEIGHT / 2:.0f} text-anchor=middle transform='rotate(-90 12 {HEIGHT / 2:.0f})'>"
        f"{html.escape(ylabel)}</text>"
    )
    text = html.escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role=img aria-label="{text}"><title>{text}</title>'
        f"{''.join(parts)}{inside(across, down)}</svg>"
    )


Mark = tuple[int, str, float, float]  # number of its colour, name, cost, quality


def tradeoff(points: Sequence[Mark], xlabel: str, ylabel: str, title: str, high: bool) -> str:
    """Costs on a logarithmic axis; the best of its cost are joined by a line."""
    x, y = Axis.around([p[2] for p in points], log=True, room=0.12), Axis.around([p[3] for p in points], room=0.12)
    front: list[Mark] = []
    for p in sorted(points, key=lambda p: (p[2], -p[3] if high else p[3])):
        if not front or (p[3] > front[-1][3] if high else p[3] < front[-1][3]):
            front.append(p)

    def inside(across: Callable, down: Callable) -> str:
        path = " ".join(f"{across(c):.1f},{down(q):.1f}" for _, _, c, q in front)
        drawn = [f"<polyline class=front points='{path}' />"]
        for i, name, cost, quality in points:
            at = f"cx={across(cost):.1f} cy={down(quality):.1f}"
            note = html.escape(f"{name}: {quality:.2f} at {cost:.3g}")
            drawn.append(f"<circle {at} r=6 fill='{colour(i)}'><title>{note}</title></circle>")
        return "".join(drawn)

    return frame(x, y, xlabel, ylabel, inside, title)


def bars(values: Sequence[tuple[int, str, Interval]], label: str, title: str) -> str:
    """(number of its colour, name, mean with interval) as lying bars, from the least value on; a row a method."""
    height = 26 * len(values) + 44
    wide = Axis.around([v for _, _, i in values for v in (i.mean, i.low, i.high)], room=0.15)
    left = 180

    def across(v: float) -> float:
        return left + wide.at(v) * (WIDTH - left - 40)

    parts = []
    for t in wide.ticks():
        parts.append(f"<line class=axis x1={across(t):.1f} x2={across(t):.1f} y1=6 y2={height - 34} />")
        parts.append(f"<text x={across(t):.1f} y={height - 20} text-anchor=middle>{t:g}</text>")
    for row, (i, name, found) in enumerate(values):
        mean, low, high, y = found.mean, found.low, found.high, 8 + 26 * row
        short = name if len(name) < 28 else name[:26] + "…"
        parts.append(f"<text x={left - 8} y={y + 14} text-anchor=end>{html.escape(short)}</text>")
        parts.append(
            f"<rect x={left} y={y} width={max(across(mean) - left, 1):.1f} height=18 fill='{colour(i)}' opacity=.75 />"
        )
        parts.append(f"<line class=whisker x1={across(low):.1f} x2={across(high):.1f} y1={y + 9} y2={y + 9} />")
        parts.append(f"<text x={across(high) + 5:.1f} y={y + 14}>{mean:.2f}</text>")
    parts.append(f"<text x={(left + WIDTH) / 2:.0f} y={height - 4} text-anchor=middle>{html.escape(label)}</text>")
    text = html.escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role=img aria-label="{text}"><title>{text}</title>{"".join(parts)}</svg>'
    )


def lines(
    series: Sequence[tuple[str, Sequence[Sequence[float]]]], xlabel: str, ylabel: str, title: str,
    diagonal: bool = False,
) -> str:  # fmt: skip
    """(name, [[x, y], …]) as lines; ``diagonal`` draws y = x."""
    points = [p for _, row in series for p in row]
    x = Axis(0, 1) if diagonal else Axis.around([p[0] for p in points], room=0.02)
    floor = max(p[1] for p in points) - 25  # far below the best nothing is to be read
    y = Axis(0, 1) if diagonal else Axis.around([max(p[1], floor) for p in points])

    def inside(across: Callable, down: Callable) -> str:
        drawn = []
        if diagonal:
            drawn.append(
                f"<line class=front x1={across(0):.1f} y1={down(0):.1f} x2={across(1):.1f} y2={down(1):.1f} />"
            )
        for i, (name, row) in enumerate(series):
            path = " ".join(f"{across(a):.1f},{down(max(b, y.low)):.1f}" for a, b in row)
            dash = f" stroke-dasharray='{DASHES[i // len(COLOURS) % 4]}'" if i >= len(COLOURS) else ""
            drawn.append(
                f"<polyline class=curve stroke='{colour(i)}'{dash} points='{path}'>"
                f"<title>{html.escape(name)}</title></polyline>"
            )
        return "".join(drawn)

    return frame(x, y, xlabel, ylabel, inside, title)


def scatter(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], xlabel: str, ylabel: str, title: str) -> str:
    """(name, (baseline, method) of every image): above the diagonal the method has the higher value."""
    values = [v for _, row in series for p in row for v in p]
    axis = Axis.around(values)

    def inside(across: Callable, down: Callable) -> str:
        low, high = axis.low, axis.high
        drawn = [
            f"<line class=front x1={across(low):.1f} y1={down(low):.1f} x2={across(high):.1f} y2={down(high):.1f} />"
        ]
        for i, (name, row) in enumerate(series):
            for k, (a, b) in enumerate(row):
                note = html.escape(f"{name}, image {k}: {b:.2f} against {a:.2f}")
                drawn.append(
                    f"<circle cx={across(a):.1f} cy={down(b):.1f} r=3.5 fill='{colour(i)}' opacity=.8>"
                    f"<title>{note}</title></circle>"
                )
        return "".join(drawn)

    return frame(axis, axis, xlabel, ylabel, inside, title)


def legend(names: Sequence[str]) -> str:
    """Coloured squares with names."""
    items = (f"<li><span style='background:{colour(i)}'></span>{html.escape(n)}</li>" for i, n in enumerate(names))
    return f"<ul class=legend>{''.join(items)}</ul>"
