"""Figures as a reader sees them."""

import statistics
import subprocess


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def spread(values, form):
    """The median, and the least and the greatest."""
    median = form.format(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({form.format(min(values))} to {form.format(max(values))})"


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


class Table:
    """A table in Markdown; each row is printed when it is there."""

    def __init__(self, *heads):
        self.heads = heads
        self.rows = []

    def row(self, *cells):
        cells = [("**no**", "yes")[cell] if isinstance(cell, bool) else cell for cell in cells]
        self.rows.append(cells)
        print(" | ".join(cells), flush=True)

    def __str__(self):
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
