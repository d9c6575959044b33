"""A deterministic simulation of the identity engine: the real decisions, in a world of lists and dictionaries.

A seed decides everything: the messages (`scenario`), who works on what and when, and what breaks (`world`). The public
tables that come of it (`postgres`) are compared with the independent recomputation (`tests.oracle`). A run takes a
few milliseconds, so that thousands of them reach orders of events that no test with real services would.

    python -m tests.simulation --runs 5000 --seed 1      # many runs
    python -m tests.simulation --seed 4711 --events      # one of them again, told event by event
"""
