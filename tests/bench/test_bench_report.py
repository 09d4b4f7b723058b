"""Records of a bench: the table of all measures, and the plot."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import report
from bench.measure import Measure, Result, Row
from bench.plot import draw

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def results() -> list[Result]:
    """Give two measures of two rounds each: of six targets three are met."""
    flood = Measure(
        name="flood",
        title="{size} lines, a `print` for each",
        contestants={},
        rows=(
            Row(figure="lines/s", yardstick="peer", at_least=1),
            Row(figure="lines/s", yardstick="file", at_least=0.8),
            Row(figure="lines/s", yardstick="file"),
        ),
        size=5000,
        smoke_size=1,
        lacks={"peer": "times", "absent": "much"},
        left_out={"absent": "node is missing"},
    )
    followers = Measure(
        name="followers",
        title="{size} of them",
        contestants={},
        rows=(
            Row(figure="us/event", yardstick=None, at_most=3),
            Row(figure="lost", yardstick=None, at_most=0),
            Row(figure="us/event", yardstick="peer", at_most=0.001),
            Row(figure="us/event", yardstick="peer", at_most=7, is_difference=True),
        ),
        size=200,
        smoke_size=1,
    )
    return [
        Result(
            flood,
            5000,
            {
                "outlast": [{"lines/s": 200.0}, {"lines/s": 300.0}],
                "peer": [{"lines/s": 100.0}, {"lines/s": 100.0}],
                "file": [{"lines/s": 400.0}, {"lines/s": 600.0}],
            },
        ),
        Result(
            followers,
            200,
            {"outlast": [{"us/event": 6.0, "lost": 0.0}] * 2, "peer": [{"us/event": 1.0, "lost": 0.0}] * 2},
        ),
    ]


def test_without_node_the_bench_leaves_pm2_out() -> None:
    look = "import json, bench.flood as f; print(json.dumps([f.MEASURES[0].left_out, *f.MEASURES[0].contestants]))"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, env={"PATH": ""}, capture_output=True, check=True)
    left_out, *contestants = json.loads(done.stdout)
    assert left_out == {"pm2": "node is missing"}
    assert "supervisord" in contestants
    assert "pm2" not in contestants


def test_one_table_tells_of_all_measures() -> None:
    table = report.summary(report.record(results(), []))
    rows = [line.split("  ") for line in table.splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows[2:]] == [
        ["flood", "outlast / peer", "lines/s", "2.5 x", ">= 1", "met"],
        ["flood", "outlast / file", "lines/s", "0.5 x", ">= 0.8", "missed"],
        ["flood", "outlast / file", "lines/s", "0.5 x"],
        ["followers", "outlast", "us/event", "6", "<= 3", "missed"],
        ["followers", "outlast", "lost", "0", "<= 0", "met"],
        ["followers", "outlast / peer", "us/event", "6 x", "<= 0.001", "missed"],
        ["followers", "outlast - peer", "us/event", "5", "<= 7", "met"],
    ]


def test_a_kept_record_is_readable(tmp_path: Path) -> None:
    """The page has the table, the machine, and what contestants lack or why they are left out."""
    kept = report.record(results(), ["commit 1234"])
    as_json, page = report.keep(kept, tmp_path / "results")
    assert json.loads(as_json.read_text(encoding="utf-8")) == kept
    text = page.read_text(encoding="utf-8")
    assert page.stem == as_json.stem
    assert report.summary(kept, "github") in text
    assert "    commit 1234\n" in text
    assert "- **flood**: 5,000 lines, a `print` for each.\n  - peer lacks: times\n" in text
    assert "  - left out: absent (node is missing)\n" in text
    assert "absent lacks" not in text


def test_the_plot_has_a_bar_for_each_target(tmp_path: Path) -> None:
    """To the right of the line is what is better than its target, and what is far from it ends at the edge."""
    record, _ = report.keep(report.record(results(), ["commit 1234"]), tmp_path)
    plot = tmp_path / "plot.svg"
    subprocess.run([sys.executable, "-m", "bench.plot", record, plot], cwd=ROOT, check=True)
    svg = ET.parse(plot).getroot()  # noqa: S314 - our own
    bars = [each for each in svg.iter(f"{SVG}rect") if each.get("class") != "page"]
    assert [bar.get("class") for bar in bars] == ["met", "missed", "missed", "met", "missed", "met"]
    [target] = {float(line.get("x1", "")) for line in svg.iter(f"{SVG}line") if line.get("class") == "target"}
    scale = [float(line.get("x1", "")) for line in svg.iter(f"{SVG}line")]
    for bar in bars:
        left, width = float(bar.get("x", "")), float(bar.get("width", ""))
        assert (left if bar.get("class") == "met" else left + width) == pytest.approx(target, abs=0.01)
        assert min(scale) <= left < left + width <= max(scale)
        assert 0 < float(bar.get("y", "")) < float(svg.get("height", ""))
    words = ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]
    assert {"2.5 x (target >= 1)", "0 (target <= 0)", "outlast / peer, lines/s"} <= set(words)
    assert any("commit 1234" in line for line in words)


def test_the_readme_shows_the_plot_of_a_kept_record() -> None:
    plot = (ROOT / "docs" / "bench.svg").read_bytes()
    records = [json.loads(path.read_bytes()) for path in (ROOT / "bench" / "results").glob("*.json")]
    assert plot in [ET.tostring(draw(record), encoding="utf-8") for record in records]
