"""`python -m bench.plot RECORD.json PLOT.svg`: how far each ratio of a record is from its target, as a picture.

A page that shows it may be light or dark. The picture has a style sheet for both, which no library for plots makes.
"""

import argparse
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from bench.report import Record, cells

_WIDTH = 900
_MARGIN = 16
_BARS_FROM, _BARS_TO = 370, 660  # left of them is what is compared, right of them what it came to
_MIDDLE = (_BARS_FROM + _BARS_TO) / 2
_LINE, _SMALL_LINE = 22, 16
_BAR = 14
_LINE_CHARACTERS = 135  # of small print, that fit into the width in any font
_FARTHEST = 4  # doublings; what is farther from its target ends at the edge

_STYLE = """
text, .measure { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.measure { font-weight: 600 }
.right { text-anchor: end }
.middle { text-anchor: middle }
.page { fill: #ffffff; stroke: #d1d9e0 }
line { stroke: #d1d9e0 }
.target { stroke: #59636e; stroke-width: 2 }
.met { fill: #2da44e }
.missed { fill: #e16f24 }
@media (prefers-color-scheme: dark) {
  text, .measure { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .page { fill: #0d1117; stroke: #3d444d }
  line { stroke: #3d444d }
  .target { stroke: #9198a1 }
}
"""


def draw(kept: Record) -> ET.Element:
    """Draw a bar for each row that has a target: to the right if it is better than that, as far for twice as for half.

    Raises:
        ValueError: no row has a target.
    """
    measures = [(measure, [row for row in measure["rows"] if row["target"]]) for measure in kept["measures"]]
    leads = [abs(_lead(row)) for _, rows in measures for row in rows]
    if not leads:
        raise ValueError("no row has a target")
    farthest = max(1, math.ceil(min(_FARTHEST, max(leads))))
    y = _LINE
    drawn = [_text(_MARGIN, y, "how many times better than its target", "small"), *_numbers(y, farthest)]
    for measure, rows in measures:
        if rows:
            y += _LINE // 2
            first, *others = textwrap.wrap(f"{measure['name']} {measure['title'].replace('`', '')}", _LINE_CHARACTERS)
            y += _LINE
            drawn.append(_heading(y, first))
            for line in others:
                y += _SMALL_LINE
                drawn.append(_text(_MARGIN, y, line, "small"))
            drawn.extend(_lines(y + _LINE - _BAR, y + _LINE * len(rows) + _BAR // 2, farthest))
        for row in rows:
            y += _LINE
            drawn.extend(_bar(row, y, farthest))
    y += _LINE
    small_print = [f"measured at {kept['taken']}", *(" ".join(line.split()) for line in kept["machine"])]
    for line in textwrap.wrap("; ".join(small_print), _LINE_CHARACTERS):
        y += _SMALL_LINE
        drawn.append(_text(_MARGIN, y, line, "small"))
    return _picture(drawn, y + _SMALL_LINE)


def _lead(row: Mapping[str, Any]) -> float:
    """Return by how many doublings a value is better than its target, negative if it is worse."""
    over, under = (row["at_most"], row["value"]) if row["at_least"] is None else (row["value"], row["at_least"])
    if over > 0 and under > 0:
        return math.log2(over / under)
    return _FARTHEST if row["met"] else -_FARTHEST


def _bar(row: Mapping[str, Any], y: int, farthest: int) -> list[ET.Element]:
    """Draw a bar with its words; `y` is where these stand."""
    compared, figure, value, target, verdict = cells(row)
    end = _at(max(-farthest, min(farthest, _lead(row))), farthest)
    x, width = min(end, _MIDDLE), abs(end - _MIDDLE)
    return [
        _text(_BARS_FROM - _MARGIN, y, f"{compared}, {figure}", "right"),
        _element("rect", x=x, y=y - _BAR + 2, width=width, height=_BAR, **{"class": verdict}),
        _text(_BARS_TO + _MARGIN, y, f"{value} (target {target})"),
    ]


def _numbers(y: int, farthest: int) -> list[ET.Element]:
    """Name the places of the scale."""
    words = {0: "target", **{doublings: f"{2**doublings}" for doublings in range(1, farthest + 1)}}
    words |= {-doublings: f"1/{2**doublings}" for doublings in range(1, farthest + 1)}
    return [_text(_at(doublings, farthest), y, word, "small middle") for doublings, word in words.items()]


def _lines(top: int, end: int, farthest: int) -> list[ET.Element]:
    """Draw the line of the target and one for each doubling."""
    return [
        _element("line", x1=x, y1=top, x2=x, y2=end, **{} if doublings else {"class": "target"})
        for doublings in range(-farthest, farthest + 1)
        for x in [_at(doublings, farthest)]
    ]


def _at(doublings: float, farthest: int) -> float:
    """Return where on the scale a lead is."""
    return _MIDDLE + doublings / farthest * (_BARS_TO - _BARS_FROM) / 2


def _picture(drawn: Sequence[ET.Element], height: int) -> ET.Element:
    svg = _element("svg", xmlns="http://www.w3.org/2000/svg", width=_WIDTH, height=height, role="img")
    ET.SubElement(svg, "title").text = "The ratios of the bench beside their targets"
    ET.SubElement(svg, "style").text = _STYLE
    svg.append(_element("rect", width="100%", height="100%", rx=6, **{"class": "page"}))
    svg.extend(drawn)
    ET.indent(svg)
    return svg


def _heading(y: int, words: str) -> ET.Element:
    """Write a line whose first word is the name of a measure."""
    name, _, title = words.partition(" ")
    line = _text(_MARGIN, y, "", "small")
    strong = ET.SubElement(line, "tspan", {"class": "measure"})
    strong.text, strong.tail = name, f"  {title}"
    return line


def _text(x: float, y: int, words: str, kind: str = "") -> ET.Element:
    text = _element("text", x=x, y=y, **{"class": kind} if kind else {})
    text.text = words
    return text


def _element(tag: str, **attributes: str | float) -> ET.Element:
    return ET.Element(
        tag, {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in attributes.items()}
    )


def main() -> None:
    """Draw what was kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description="A record's ratios beside their targets.")
    parser.add_argument("record", type=Path, help="a JSON file that the bench kept")
    parser.add_argument("plot", type=Path, help="the SVG file to write")
    options = parser.parse_args()
    ET.ElementTree(draw(json.loads(options.record.read_bytes()))).write(options.plot, encoding="utf-8")


if __name__ == "__main__":
    main()
