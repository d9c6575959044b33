"""Seeds for fuzzing, and a way to damage them."""

import re
from functools import cache
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
"""Files of records, with a zero byte between two of them. Those named `found` are of a fuzzer's: each adds lines of the
product that the others do not reach. What breaks something is kept here as well."""

ODD = (
    *(b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x00", b"NaN", b"-0.0", b"1e308", b"1e309", b"[" * 300),
    *(b"9" * 400, b"-9223372036854775809", b'""', b"null", b"true", b"[]", b"{}", b"[[1]]", b'{"a":{"b":null}}'),
    *(b'"' + b"x" * 600 + b'"', b'"9999-12-31T23:59:59.999999Z"', b'"1970-01-01"', b"-1", b"253402300799999"),
    *(b'"\xf0\x9f\xa6\x81"', b'"null"', b'"00000000-0000"', b"\xef\xbb\xbf", b'"type":"track",', b'"userId":"u9",'),
)

_VALUE = re.compile(rb':("(?:[^"\\]|\\.)*"|-?[0-9.eE+-]+|true|false|null|\[\]|\{\})')


@cache
def seeds() -> tuple[bytes, ...]:
    """Every record of the corpus."""
    return tuple(value for path in sorted(CORPUS.iterdir()) for value in path.read_bytes().split(b"\0"))


def mutated(value: bytes, random: Random) -> bytes:
    """A message with values replaced, bytes put in, or parts cut out and repeated."""
    for _ in range(random.randint(1, 4)):
        drawn = random.random()
        at = random.randint(0, len(value))
        if drawn < 0.6 and (found := list(_VALUE.finditer(value))):
            match = random.choice(found)
            value = value[: match.start(1)] + random.choice(ODD) + value[match.end(1) :]
        elif drawn < 0.8:
            value = value[:at] + random.choice(ODD) + value[at:]
        else:
            until = min(len(value), at + random.randint(0, 40))
            value = value[:at] + value[at:until] * random.choice((0, 2)) + value[until:]
    return value
