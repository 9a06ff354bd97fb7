"""Line charts, one panel for each group, drawn with Pillow, which OpenHands brings along."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PANEL, MARGIN, COLUMNS = (420, 280), 48, 3
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#7f7f7f", "#17becf")
INK, GRID = "#222222", "#dddddd"


def draw(path: Path, panels: Mapping[str, Mapping[str, Sequence[float]]], leave_out: Collection[str]) -> None:
    """Write a PNG with cumulative regret over tasks; the names of the lines are told once, at the bottom."""
    rows = -(-len(panels) // COLUMNS)
    image = Image.new("RGB", (PANEL[0] * COLUMNS, PANEL[1] * rows + MARGIN), "white")
    canvas = ImageDraw.Draw(image)
    canvas.font = ImageFont.load_default(13)
    names = [name for name in next(iter(panels.values())) if name not in leave_out]
    colours = dict(zip(names, COLOURS, strict=False))
    for number, (title, lines) in enumerate(panels.items()):
        corner = (number % COLUMNS * PANEL[0], number // COLUMNS * PANEL[1])
        _panel(canvas, corner, title, {name: lines[name] for name in names}, colours)
    for number, name in enumerate(names):
        x, y = MARGIN + number * 200, PANEL[1] * rows + MARGIN // 2
        canvas.line((x, y, x + 24, y), fill=colours[name], width=3)
        canvas.text((x + 30, y - 8), name, fill=INK)
    image.save(path, optimize=True)


def _panel(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    lines: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
) -> None:
    left, top = corner[0] + MARGIN, corner[1] + MARGIN // 2
    right, bottom = corner[0] + PANEL[0] - 12, corner[1] + PANEL[1] - MARGIN // 2
    longest = max(map(len, lines.values()))
    highest = max(max(line) for line in lines.values()) or 1.0
    for part in range(5):
        y = bottom - (bottom - top) * part / 4
        canvas.line((left, y, right, y), fill=GRID)
        canvas.text((left - 6, y), f"{highest * part / 4:.0f}", fill=INK, anchor="rm")
        x = left + (right - left) * part / 4
        canvas.text((x, bottom + 4), f"{longest * part // 4}", fill=INK, anchor="ma")
    canvas.text((left + 8, top + 2), f"{title}: regret", fill=INK)
    for name, line in lines.items():
        points = [
            (left + (right - left) * task / longest, bottom - (bottom - top) * value / highest)
            for task, value in enumerate(line)
        ]
        canvas.line(points, fill=colours[name], width=2)
