"""Staged rows, encoded a whole array at a time, where something is handed in that can."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sinks.postgres.statements import statement

RowEncoder: TypeAlias = Callable[[int, Sequence[int]], Callable[[list[tuple[Any, ...]]], bytes]]
"""Given the OID of a composite type and those of its fields' types, which are text, bigint or boolean: what encodes an
array of it, as Postgres receives it, and raises what asyncpg raises."""


async def encode_rows_by(encoder: RowEncoder, connection: Any, schema: str) -> None:  # noqa: ANN401  asyncpg's
    """Have `encoder` do what asyncpg does value by value, through codecs of arrays, composites and their fields."""
    # `set_type_codec` refuses arrays, and composites in binary; this is what it calls for what it takes.
    settings = connection._protocol.get_settings()  # noqa: SLF001
    for array, name, composite, fields in await connection.fetch(statement("staged_types")):
        encode = encoder(composite, fields)
        settings.add_python_codec(array, f"{name}[]", schema, [], "array", encode, bytes, "binary")
