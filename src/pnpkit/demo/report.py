"""The demo's page: one HTML file, no network, pictures inside."""

import base64
import datetime
import html
import io
import platform
from pathlib import Path

import torch

from pnpkit import __version__
from pnpkit.demo.cases import Outcome, Row

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--accent:#2266cc}
body{font:16px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin:2.5rem 0 .3rem;border-top:1px solid var(--line);padding-top:1rem}
p.note{opacity:.75;margin:.2rem 0 .8rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.best{font-weight:700}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:.8rem}
figure{margin:0}figure img{width:100%;image-rendering:auto;border-radius:4px;display:block;background:var(--soft)}
figcaption{font-size:.85rem;line-height:1.3;padding-top:.25rem}
details{margin:.8rem 0}summary{cursor:pointer}svg{max-width:640px;width:100%;height:auto}
svg text{fill:currentColor;font-size:11px}svg .axis{stroke:currentColor;opacity:.3}
"""
COLOURS = ("#2266cc", "#cc5522", "#228844", "#9944aa", "#887722")


def write(path: Path, outcomes: list[Outcome], threads: int) -> None:
    """Write the page."""
    made = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {threads or torch.get_num_threads()} threads"
    body = [
        "<h1>pnpkit demo</h1>",
        f"<p class=note>pnpkit {__version__}, {made}, {html.escape(machine)}. Made by <code>pnpkit demo</code>; "
        "every figure on this page was measured in that run.</p>",
        _table(outcomes),
        *(_section(o) for o in outcomes),
    ]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>pnpkit demo</title><style>{STYLE}</style><body>{''.join(body)}</body></html>"
    path.write_text(page, encoding="utf-8")


def _table(outcomes: list[Outcome]) -> str:
    methods = list(dict.fromkeys(r.method for o in outcomes for r in o.rows))
    head = "".join(f"<th scope=col>{html.escape(m)}</th>" for m in methods)
    lines = []
    for o in outcomes:
        rows, best = {r.method: r for r in o.rows}, max(r.psnr for r in o.rows)
        cells = "".join(_cell(rows.get(m), best) for m in methods)
        lines.append(f"<tr><td>{html.escape(o.case.title)}</td>{cells}</tr>")
    caption = "PSNR in dB · SSIM · seconds (best PSNR in bold)"
    return f"<div class=scroll><table><caption>{caption}</caption><tr><th scope=col>case</th>{head}</tr>{''.join(lines)}</table></div>"


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return "<td></td>"
    mark = " class=best" if row.psnr == best else ""
    return f"<td{mark}>{row.psnr:.2f} · {row.ssim:.3f} · {row.seconds:.1f}</td>"


def _section(o: Outcome) -> str:
    title = html.escape(o.case.title)
    pictures = [_figure(o.truth, "reference", title), _figure(o.seen, "measurement", title)]
    pictures += [_figure(r.image, f"{r.method}: {r.psnr:.2f} dB", title) for r in o.rows]
    errors = [_figure(_error(r.image, o.truth), f"{r.method}: error ×5", title) for r in o.rows]
    notes = "".join(
        f"<li>{html.escape(r.method)}: {r.steps} steps, calls {html.escape(str(r.calls))}. {html.escape('; '.join(r.notes))}</li>"
        for r in o.rows
    )
    return (
        f"<h2>{title}</h2><p class=note>{html.escape(o.case.text)}</p><div class=grid>{''.join(pictures)}</div>"
        f"<details open><summary>error maps</summary><div class=grid>{''.join(errors)}</div></details>"
        f"<details open><summary>convergence: PSNR against seconds</summary>{_plot(o)}</details>"
        f"<details><summary>what each method did</summary><ul>{notes}</ul></details>"
    )


def _error(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (5 * (image - truth).abs().mean(0, keepdim=True)).clamp(0, 1)


def _figure(image: torch.Tensor, caption: str, title: str) -> str:
    text = html.escape(caption)
    return f"<figure><img alt='{title}, {text}' src='{_data_url(image)}'><figcaption>{text}</figcaption></figure>"


def _data_url(image: torch.Tensor) -> str:
    """(C, H, W) in [0, 1] as a data URL; JPEG keeps the page small, the figures come from the tensors."""
    from PIL import Image

    array = (image * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _plot(o: Outcome) -> str:
    """PSNR over wall time, one line a method."""
    points = [p for r in o.rows for p in r.trace]
    if not points:
        return ""
    width, height, left, bottom = 640, 240, 44, 28
    right = max(p[0] for p in points) or 1.0
    high = max(p[1] for p in points) + 0.5
    low = max(min(p[1] for p in points), high - 25)

    def at(t: float, v: float) -> str:
        return f"{left + t / right * (width - left - 8):.1f},{8 + (high - max(v, low)) / (high - low) * (height - bottom - 8):.1f}"

    ticks = [low + i * (high - low) / 4 for i in range(5)]
    grid = "".join(
        f"<line class=axis x1={left} x2={width} y1={at(0, t).split(',')[1]} y2={at(0, t).split(',')[1]} />"
        f"<text x=2 y={float(at(0, t).split(',')[1]) + 4:.1f}>{t:.1f}</text>"
        for t in ticks
    )
    grid += "".join(
        f"<text x={at(right * i / 4, low).split(',')[0]} y={height - 8} text-anchor=middle>{right * i / 4:.1f}</text>"
        for i in range(4)
    )
    grid += f"<text x={width} y={height - 8} text-anchor=end>{right:.1f} s</text>"
    lines = "".join(
        f"<polyline fill=none stroke='{COLOURS[i % len(COLOURS)]}' stroke-width=2 points='{' '.join(at(*p) for p in r.trace)}'><title>{html.escape(r.method)}</title></polyline>"
        for i, r in enumerate(o.rows)
    )
    legend = " ".join(
        f"<span style='color:{COLOURS[i % len(COLOURS)]}'>■</span> {html.escape(r.method)}"
        for i, r in enumerate(o.rows)
    )
    return f"<svg viewBox='0 0 {width} {height}' role=img aria-label='PSNR in dB against seconds'>{grid}{lines}</svg><p class=note>{legend}</p>"
