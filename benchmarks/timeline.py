"""How fast the timeline of one profile is: `python -m benchmarks.timeline --help`.

On an embedded Postgres of its own, filled with a year of occurrences: the newest hundred and all occurrences of one
profile through the view `profile_events`, for profiles of five leaves and about two hundred occurrences, with
everything in memory. Statistics are those that autovacuum gathers within its first minutes: of every table, but not of
partitioned parents. Before it has looked at a table that was just filled, plans are bad, and take seconds.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.measures import this_machine
from benchmarks.pipeline import temporary_data_dir
from operations.embedded.postgres import start_postgres, stop_postgres
from sinks.postgres.database import Connection, Database, fetch
from sinks.postgres.migration import migrate
from sinks.postgres.partitions import DAY_US, Partitions

SCHEMA: Final = "tidemark"
BEGIN_US: Final = 1_735_689_600_000_000
"""2025-01-01T00:00:00Z."""
DAYS: Final = 365
LEAVES: Final = 5
"""Of the profiles that are measured; the others have one to four."""
OCCURRENCES: Final = range(180, 221)
"""Of the profiles that are measured."""
NEWEST: Final = 100

LIMIT_MS: Final = 20.0
"""What a page that shows a timeline can spend on it without anybody noticing."""

# Profile n has 1 + n % 5 leaves; every fifth is a visitor that nobody has recognised.
FILL_IDENTITIES: Final = """
insert into identities (leaf, profile_id)
select case when k = 0 then root else 'anon:' || md5('leaf ' || n || ' ' || k)::uuid end, root
from generate_series(0, $1::integer - 1) as n
cross join lateral (select case when n % 5 = 0 then 'anon:' || md5('root ' || n)::uuid else 'user:u-' || n end as root)
cross join lateral generate_series(0, n % 5) as k
"""
FILL_PROFILES: Final = """
insert into profiles (profile_id, user_id, page_views, first_seen, attributes, position, definitions_version)
select distinct profile_id, case when profile_id like 'user:%' then substr(profile_id, 6) end,
    0, time_of($1), '{"plan": "pro"}'::jsonb, 0, 0
from identities
"""
# Few profiles do much, most do little: the squared random number makes the n-th profile's share fall as 1/sqrt(n).
# In order of time, as they arrive.
FILL_OCCURRENCES: Final = """
insert into event_occurrences (message_id, leaf, event, event_time, properties)
select 'ajs-next-' || md5('message ' || m), leaf, event, time_of($3 + at),
    jsonb_build_object('order_id', md5('order ' || m), 'price', m % 1000, 'currency', 'EUR', 'coupon', 'none')
from (
    select m, case when k > 0 then 'anon:' || md5('leaf ' || n || ' ' || k)::uuid
            when n % 5 = 0 then 'anon:' || md5('root ' || n)::uuid else 'user:u-' || n end as leaf,
        (array['Product Viewed', 'Product Added', 'Cart Viewed', 'Order Completed'])[1 + m % 4] as event, at
    from (
        select m, n, floor(random() * (1 + n % 5))::integer as k, floor(random() * $4)::bigint as at
        from (
            select m, floor($2::integer * random() ^ 2)::integer as n from generate_series(1, $1::integer) as m
        ) of_profile
    ) of_leaf
) made
order by at
"""
CHOOSE: Final = """
select profile_id, n from (
    select i.profile_id, count(distinct i.leaf) as leaves, count(*) as n
    from identities i join event_occurrences o on o.leaf = i.leaf
    group by i.profile_id
) counted
where leaves = $1 and n between $2 and $3
order by profile_id
limit $4
"""
ALL: Final = """
select event_time, event, leaf, message_id, properties, sent_properties
from profile_events where profile_id = $1 order by event_time desc
"""
QUERIES: Final = {f"newest {NEWEST}": f"{ALL} limit {NEWEST}", "all": ALL}


@dataclass(frozen=True, slots=True)
class Result:
    """One query over every chosen profile, several times each."""

    name: str
    rows: int
    """The most that came."""
    p50_ms: float
    max_ms: float


async def fill(connection: Connection, occurrences: int, profiles: int) -> None:
    """Make the rows, and the statistics that autovacuum would make."""
    await Partitions().ensure(connection, "event_occurrences", (BEGIN_US + day * DAY_US for day in range(DAYS)))
    await connection.execute("select setseed(0.7)")
    await connection.execute(FILL_IDENTITIES, profiles)
    await connection.execute(FILL_PROFILES, BEGIN_US)
    await connection.execute(FILL_OCCURRENCES, occurrences, profiles, BEGIN_US, DAYS * DAY_US)
    tables = await fetch(
        connection,
        "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = $1::text::regnamespace",
        SCHEMA,
    )
    for (table,) in tables:
        await connection.execute(f"vacuum analyze {table}")


async def measure(connection: Connection, name: str, chosen: Sequence[tuple[str, int]], repeats: int) -> Result:
    """Time one query at the client, after a round that warms the cache and the statement."""
    query = QUERIES[name]
    spent: list[float] = []
    most = 0
    for repeat in range(repeats + 1):
        for profile_id, occurrences in chosen:
            began = time.perf_counter()
            rows = len(await fetch(connection, query, profile_id))
            if repeat:
                spent.append((time.perf_counter() - began) * 1000)
            if rows != (occurrences if query is ALL else min(occurrences, NEWEST)):
                raise SystemExit(f"wrong rows: {rows} of {profile_id}, which has {occurrences}")
            most = max(most, rows)
    spent.sort()
    return Result(name, most, spent[len(spent) // 2], spent[-1])


async def run(dsn: str, told: argparse.Namespace, console: Console) -> list[Result]:
    """Fill, choose, measure; prints the plans."""
    await migrate(dsn, SCHEMA)
    connection = await Database(dsn, SCHEMA, application="tidemark-bench").open()
    try:
        console.print(f"filling {told.occurrences:,} occurrences of {told.profiles:,} profiles")
        await fill(connection, told.occurrences, told.profiles)
        chosen = [
            (profile_id, n)
            for profile_id, n in await fetch(connection, CHOOSE, LEAVES, OCCURRENCES[0], OCCURRENCES[-1], told.sample)
        ]
        if not chosen:
            raise SystemExit(f"no profile has {LEAVES} leaves and {OCCURRENCES[0]} to {OCCURRENCES[-1]} occurrences")
        results = [await measure(connection, name, chosen, told.repeats) for name in QUERIES]
        for name, query in QUERIES.items():
            plan = await fetch(connection, f"explain (analyze, buffers) {query}", chosen[0][0])
            console.print(f"\n{name}:", *(row[0] for row in plan), sep="\n", markup=False, highlight=False)
    finally:
        await connection.close()
    return results


def main() -> None:
    """Measure, print a table, and write it where told. Exit code 1 when a timeline is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--occurrences", type=int, default=1_000_000)
    parser.add_argument("--profiles", type=int, default=50_000)
    parser.add_argument("--sample", type=int, default=20, help="profiles that are measured")
    parser.add_argument("--repeats", type=int, default=10, help="times that each of them is asked for")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    told = parser.parse_args()
    console = Console(soft_wrap=True)
    with temporary_data_dir() as home:
        state, process = start_postgres(home, None)
        try:
            results = asyncio.run(run(state.dsn(), told, console))
        finally:
            stop_postgres(process)
    table = Table(
        title=f"one profile's timeline in {told.occurrences:,} occurrences of {told.profiles:,} profiles, "
        f"{DAYS} days; {os.cpu_count()} cores"
    )
    for column in ("what", "rows", "p50 ms", "max ms"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for result in results:
        table.add_row(result.name, str(result.rows), f"{result.p50_ms:.2f}", f"{result.max_ms:.2f}")
    console.print(table)
    if told.json:
        told.json.write_text(
            json.dumps({"machine": this_machine(), "results": [asdict(each) for each in results]}, indent=2) + "\n"
        )
    if any(result.p50_ms > LIMIT_MS for result in results):
        raise SystemExit(f"slower than {LIMIT_MS:.0f} ms")


if __name__ == "__main__":
    main()
