"""Prints, at the end of a session, the tables that the fault tests have filled."""

from tests.faults.outcomes import TABLES


def pytest_terminal_summary(terminalreporter):
    for table in TABLES.values():
        terminalreporter.section(table.title)
        terminalreporter.write_line(str(table))
