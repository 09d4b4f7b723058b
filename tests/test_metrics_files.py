"""The alerts and the dashboard that ship with the program: their queries name metrics that exist, and alerts fire."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.api.metrics import families
from outlast.api.metrics.exposition import Kind
from tests.support.required import program

CONFIG = Path(__file__).parent.parent / "config"
ALERTS = CONFIG / "outlast-alerts.yml"
DASHBOARD = CONFIG / "outlast-dashboard.json"
Values = str | dict[str, str]
NAMED = re.compile(r"\b(?:outlast|process)_\w+")
SAMPLES = {
    family.name + suffix
    for family in families.ALL
    for suffix in (("_bucket", "_sum", "_count") if family.kind is Kind.HISTOGRAM else ("",))
}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def rules() -> list[str]:
    """Return the text of each rule. No parser of YAML is needed for that."""
    return re.split(r"^ +- alert: ", ALERTS.read_text(), flags=re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def check(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_name_metrics_that_exist() -> None:
    used = [set(NAMED.findall(re.sub(r"annotations:.*", "", rule, flags=re.DOTALL))) for rule in rules()]
    assert len(used) == 6
    assert all(used)
    assert set().union(*used) <= SAMPLES


def test_the_dashboard_names_metrics_that_exist() -> None:
    used = {name for expression in expressions() for name in NAMED.findall(expression)}
    variables = dashboard()["templating"]["list"]
    used |= {name for variable in variables for name in NAMED.findall(variable.get("definition", ""))}
    assert used <= SAMPLES
    shown = {name.removesuffix("_bucket") for name in used}
    left_out = {"outlast_process_start_time_seconds", "process_start_time_seconds", "process_threads"}
    left_out |= {"process_virtual_memory_bytes"}
    assert {family.name for family in families.ALL} - shown == left_out


def test_the_dashboard_is_in_order() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in panels
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places), "panels overlap"
    assert {x for x, _ in places} == set(range(24))
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    for expression in expressions():
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}
        assert 'job=~"$job",instance=~"$instance"' in expression


def test_promtool_accepts_the_alerts(promtool: str) -> None:
    check(promtool, "check", "rules", ALERTS)


def test_promtool_accepts_the_queries_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    queries = [expression.replace("$__rate_interval", "5m") for expression in expressions()]
    lines = [f"  - record: query{number}\n    expr: {json.dumps(query)}" for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text("groups:\n- name: dashboard\n  rules:\n" + "\n".join(lines) + "\n")
    check(promtool, "check", "rules", tmp_path / "queries.yml")


SERIES: dict[str, tuple[str, Values, Values, dict[str, str]]] = {
    "OutlastStoreDown": ("outlast_store_up{job='o'}", "1 1 0x60", "1x60", {}),
    "OutlastProcessBackingOff": (
        "outlast_process_up{job='o',name='web'}",
        "1x10 0 0 0 1 0 0 0 1 0x60",
        "1x15 0 1x40",  # one restart, seen by one scrape
        {"name": "web"},
    ),
    "OutlastProcessBlocked": ("outlast_blocked_processes{job='o'}", "0 2x60", "0 2 2 0 2x3 0x60", {}),
    "OutlastOutputGap": ("outlast_output_gaps_total{job='o',reason='lost'}", "0x20 1x60", "3x60", {"reason": "lost"}),
    "OutlastDiskFilling": ("outlast_filesystem_free_bytes{job='o'}", "9e8x60", "9e10x60", {}),
    "OutlastCaptureDelay": (
        "outlast_capture_delay_seconds_bucket{job='o',le='%s'}",
        {"30.0": "0x60", "60.0": "0+10x60", "+Inf": "0+10x60"},
        {"30.0": "0+10x60", "60.0": "0+10x60", "+Inf": "0+10x60"},
        {},
    ),
}
"""For each alert, a series by which it fires, and one by which it does not. One value a minute."""


def _input(series: str, values: Values) -> str:
    rows = {series: values} if isinstance(values, str) else {series % le: text for le, text in values.items()}
    return "".join(f'    - series: "{name}"\n      values: "{text}"\n' for name, text in rows.items())


@pytest.mark.parametrize("alert", SERIES)
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "is quiet"])
def test_an_alert_fires_when_it_should(promtool: str, tmp_path: Path, alert: str, *, fires: bool) -> None:
    series, bad, good, labels = SERIES[alert]
    severity = re.search(r"severity: (\w+)", next(rule for rule in rules() if rule.startswith(alert)))
    assert severity is not None
    state = {"alertname": alert, "alertstate": "firing"}
    query = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    found = {**state, **labels, "job": "o", "severity": severity[1]}
    sample = ",".join(f'{name}="{value}"' for name, value in found.items())
    samples = f"[{{labels: 'ALERTS{{{sample}}}', value: 1}}]"
    (tmp_path / "test.yml").write_text(
        f"rule_files: [{json.dumps(str(ALERTS))}]\nevaluation_interval: 1m\ntests:\n"
        f"  - interval: 1m\n    input_series:\n{_input(series, bad if fires else good)}"
        f"    promql_expr_test:\n    - expr: {json.dumps(query)}\n      eval_time: 25m\n"
        f"      exp_samples: {samples if fires else '[]'}\n"
    )
    check(promtool, "test", "rules", tmp_path / "test.yml")
