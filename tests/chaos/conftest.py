"""Shows the summary of each campaign, passed or failed: its seed repeats it."""

import pytest

SUMMARY = "chaos"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summaries = [
        text
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, text in report.user_properties
        if name == SUMMARY and report.when == "call"
    ]
    for text in summaries:
        terminalreporter.section("a campaign of kills")
        terminalreporter.write_line(text)
