"""Small pieces of HTML that several sections use."""

from html import escape as esc


def digits(metric: str) -> int:
    """Decimals that a metric is shown with."""
    return 2 if metric.startswith("psnr") else 4


def fold(summary: str, body: str) -> str:
    """A part that opens."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def pre(text: str) -> str:
    return f"<pre>{esc(text)}</pre>"
