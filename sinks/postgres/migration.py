"""Numbered SQL files, applied in order: the schema is their sum."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import ServiceError
from sinks.postgres.database import Connection, Database, fetch

MIGRATIONS: Final = Path(__file__).parent / "migrations"

WAIT_MS: Final = 120_000
"""How long one migration waits for another that runs at the same time: they take seconds."""

_NAME = re.compile(r"(\d{3})_[a-z0-9_]+\.sql\Z")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    """The file's name without `.sql`."""
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(directory: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of a directory by version, which count from 1 without a gap."""
    found = [
        Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(directory.iterdir())
        if (match := _NAME.match(path.name))
    ]
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ServiceError(
            f"expected migrations numbered 001, 002, ... in {directory}; got {[each.name for each in found]}"
        )
    return found


async def migrate(dsn: str, schema: str, directory: Path = MIGRATIONS) -> list[str]:
    """Apply what is not applied yet, all of it or nothing, and return the names of what was applied.

    Waits for Postgres, and for another migration of the same schema. Raises ServiceError when the database was
    migrated by other files than these.
    """
    wanted = migrations(directory)
    database = Database(dsn, schema, application="tidemark-migrate", lock_timeout_ms=WAIT_MS)

    async def apply(connection: Connection) -> list[str]:
        async with connection.transaction():
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"tidemark migrations {schema}"
            )
            # The schema's name was checked to be a plain identifier.
            await connection.execute(f"create schema if not exists {schema}")
            await connection.execute(
                "create table if not exists schema_migrations (version integer primary key, name text not null, "
                "checksum text not null, applied_at timestamptz not null default now())"
            )
            missing = _missing(await _applied(connection), wanted, schema)
            for migration in missing:
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
            return [migration.name for migration in missing]

    try:
        return await database.run("the migration", apply)
    finally:
        await database.close()


async def require_migrated(connection: Connection, schema: str) -> None:
    """Raise ServiceError unless the schema is exactly as this version of Tidemark expects it."""
    if await connection.fetchval("select to_regclass($1)", f"{schema}.schema_migrations") is None:
        raise ServiceError(f"schema {schema!r} is not there: run `tidemark migrate`")
    missing = _missing(await _applied(connection), migrations(), schema)
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise ServiceError(f"schema {schema!r} lacks {names}: run `tidemark migrate`")


async def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    rows = await fetch(connection, "select version, name, checksum from schema_migrations order by version")
    return {version: (name, checksum) for version, name, checksum in rows}


def _missing(applied: dict[int, tuple[str, str]], wanted: list[Migration], schema: str) -> list[Migration]:
    for version, (name, _) in applied.items():
        if version > len(wanted):
            raise ServiceError(
                f"schema {schema!r} has migration {name}, which this Tidemark does not know (its last is "
                f"{len(wanted):03d}): install the version of Tidemark that migrated it, or a newer one"
            )
    for migration in wanted:
        name, checksum = applied.get(migration.version, (migration.name, migration.checksum))
        if checksum != migration.checksum:
            raise ServiceError(
                f"migration {migration.name} is not the one that schema {schema!r} was migrated with ({name}): an "
                "applied migration never changes. Put the file back as it was, and write the change as a new one"
            )
    return [migration for migration in wanted if migration.version not in applied]
