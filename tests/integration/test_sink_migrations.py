"""The schema is the sum of its migrations."""

import asyncio
import shutil

import asyncpg
import pytest

from contracts.errors import ServiceError
from sinks.postgres.database import Database
from sinks.postgres.migration import MIGRATIONS, migrate, migrations, require_migrated
from sinks.postgres.queries import PUBLIC_COLUMNS

NAMES = [each.name for each in migrations()]


async def test_from_zero_to_the_public_tables(postgres_dsn):
    assert await migrate(postgres_dsn, "of_mine") == NAMES
    connection = await asyncpg.connect(postgres_dsn)
    try:
        rows = await connection.fetch(
            "select table_name, column_name from information_schema.columns where table_schema = 'of_mine'"
        )
        elsewhere = await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'")
    finally:
        await connection.close()
    columns = {}
    for table, column in rows:
        columns.setdefault(table, set()).add(column)
    for table, (public, _) in PUBLIC_COLUMNS.items():
        assert {name.strip('"') for name in public} <= columns[table], table
    assert elsewhere == 0


async def test_twice_is_once(postgres_dsn):
    await migrate(postgres_dsn, "tidemark")
    assert await migrate(postgres_dsn, "tidemark") == []


async def test_at_once_they_take_turns(postgres_dsn):
    done = await asyncio.gather(*(migrate(postgres_dsn, "tidemark") for _ in range(4)))
    assert sorted(done) == [[], [], [], NAMES]


async def test_schemas_live_side_by_side(postgres_dsn):
    assert await migrate(postgres_dsn, "blue") == NAMES
    assert await migrate(postgres_dsn, "green") == NAMES


async def test_a_changed_file_is_refused(postgres_dsn, tmp_path):
    shutil.copytree(MIGRATIONS, tmp_path / "m")
    await migrate(postgres_dsn, "tidemark", tmp_path / "m")
    first = tmp_path / "m" / f"{NAMES[0]}.sql"
    first.write_text(first.read_text() + "\n-- changed\n")
    with pytest.raises(ServiceError, match=NAMES[0]):
        await migrate(postgres_dsn, "tidemark", tmp_path / "m")


async def test_a_newer_schema_is_refused(postgres_dsn, tmp_path):
    shutil.copytree(MIGRATIONS, tmp_path / "m")
    (tmp_path / "m" / f"{len(NAMES) + 1:03d}_newer.sql").write_text("select 1")
    await migrate(postgres_dsn, "tidemark", tmp_path / "m")
    with pytest.raises(ServiceError, match="newer"):
        await migrate(postgres_dsn, "tidemark")


async def test_a_failing_migration_leaves_nothing(postgres_dsn, tmp_path):
    (tmp_path / "001_good.sql").write_text("create table good (n int)")
    (tmp_path / "002_bad.sql").write_text("create tabel bad (n int)")
    with pytest.raises(ServiceError, match="42601"):
        await migrate(postgres_dsn, "tidemark", tmp_path)
    (tmp_path / "002_bad.sql").unlink()
    assert await migrate(postgres_dsn, "tidemark", tmp_path) == ["001_good"]


async def test_a_worker_asks_for_the_whole_schema(postgres_dsn, tmp_path):
    shutil.copy(MIGRATIONS / f"{NAMES[0]}.sql", tmp_path)
    connection = await Database(postgres_dsn, "tidemark").open()
    try:
        with pytest.raises(ServiceError, match="tidemark migrate"):
            await require_migrated(connection, "tidemark")
        await migrate(postgres_dsn, "tidemark", tmp_path)
        with pytest.raises(ServiceError, match=NAMES[-1]):
            await require_migrated(connection, "tidemark")
        await migrate(postgres_dsn, "tidemark")
        await require_migrated(connection, "tidemark")
    finally:
        await connection.close()


async def test_partitions_of_an_older_release_keep_the_id_that_is_to_be_fenced(postgres_dsn, tmp_path):
    before = tmp_path / "before"
    before.mkdir()
    for name in NAMES[: NAMES.index("006_writer")]:
        shutil.copy(MIGRATIONS / f"{name}.sql", before)
    await migrate(postgres_dsn, "tidemark", before)
    connection = await Database(postgres_dsn, "tidemark").open()
    try:
        await connection.execute(
            "insert into progress (app_version, topic, partition, epoch, owner, owner_pid) values "
            "('v1', 'tidemark-v1-leaves', 3, 1, 'w1', 0)"
        )
        await migrate(postgres_dsn, "tidemark")
        assert await connection.fetchval("select transactional_id from progress") == "tidemark-v1-leaves-3"
    finally:
        await connection.close()
