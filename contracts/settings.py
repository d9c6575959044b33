"""All settings of Tidemark as one value: names, defaults, units and limits.

Reading them (environment, TOML file) is `operations.settings`; this module does no I/O.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from contracts.errors import SettingError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Native = Literal["auto", "on", "off"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

SECRETS = frozenset({"sasl_password", "ssl_key_password", "dsn"})
"""Settings never shown: the DSN may carry a password."""

BLOCKED_IDS = (
    "null",
    "none",
    "undefined",
    "nan",
    "anonymous",
    "guest",
    "unknown",
    "-1",
    "true",
    "false",
    "[object object]",
)
"""SEMANTICS S1. Compared without case, and in quotes as well; while the list is not empty, ids of only zeros
and dashes are blocked too."""

OWN_PREFIX = "tidemark-"
"""Begins the name of every topic that Tidemark writes itself, of whatever app version."""

_POSTGRES_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
# 249 is Kafka's limit for a topic name; 48 leaves ample room for our prefixes and suffixes.
_APP_VERSION = re.compile(r"[a-z0-9][a-z0-9-]{0,47}\Z")
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")

# A broker's own limits are far below; more partitions than this on one topic is a slip of the keyboard.
_PARTITIONS_MAX = 10_000
# Kafka's own ceiling is 2 GiB; beyond 64 MiB a batch no longer fits beside others in a worker's memory.
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_PORT_MAX = 65535
# A broker's own group.min.session.timeout.ms and group.max.session.timeout.ms, unless it is told others.
_SESSION_TIMEOUT_S_MIN, _SESSION_TIMEOUT_S_MAX = 6, 1800

_LEAST: dict[str, int] = {
    "replication_factor": 1,
    "min_insync_replicas": 1,
    "dedupe_window_days": 1,
    "max_message_bytes": 1024,
    "future_tolerance_s": 0,
    "cycle_records_max": 1,
    "http_port": 0,
    "stall_timeout_s": 1,
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of Tidemark is told. Values only; every instance has been validated.

    Raises SettingError, naming the setting, when a value is out of its limits.
    """

    # --- Kafka ---
    bootstrap_servers: str = ""
    """`host:port`, several separated by commas. Empty: the embedded Kafka."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_ca_file: str = ""
    """PEM file of the authorities that sign the brokers. Empty: those of the system."""
    ssl_cert_file: str = ""
    """PEM file of the client's certificate, where the brokers ask for one."""
    ssl_key_file: str = ""
    ssl_key_password: str = ""

    # --- topics ---
    source_topics: tuple[str, ...] = ("segment",)
    """Topics that Segment's Kafka destination writes."""
    app_version: str = "v1"
    """Version of the topology: another one has topics, changelogs and a consumer group of its own."""
    source_partitions: int = 4
    """Partitions of a source topic that Tidemark creates itself."""
    leaves_partitions: int = 4
    companies_partitions: int = 2
    quarantine_partitions: int = 1
    replication_factor: int = 1
    min_insync_replicas: int = 1

    # --- Postgres ---
    dsn: str = ""
    """`postgresql://user:password@host:port/database`. Empty: the embedded Postgres."""
    schema: str = "tidemark"

    # --- messages ---
    dedupe_window_days: int = 30
    """SEMANTICS S3: how long a messageId is remembered, in days on the worker's clock."""
    max_message_bytes: int = 1024 * 1024
    """Greater records are quarantined `too_large`, in bytes."""
    future_tolerance_s: int = 300
    """SEMANTICS S2: how far after its receipt an event may lie, in seconds."""
    blocked_ids: tuple[str, ...] = BLOCKED_IDS

    # --- running ---
    data_dir: Path = Path(".tidemark")
    """Where embedded services, local state and logs live."""
    cache_dir: str = ""
    """Where downloaded jars are kept. Empty: `$XDG_CACHE_HOME/tidemark`, else `~/.cache/tidemark`."""
    java_home: str = ""
    """A Java 17 or newer for the embedded Kafka. Empty: the one that comes with the `embedded` extra."""
    standby: bool = False
    """Keep the state of partitions that other workers own close at hand, so that taking one over is quick."""
    session_timeout_s: int = 6
    """A worker that was killed is missed after so long, in seconds, and its partitions go to others."""
    cycle_records_max: int = 6000
    """Records that one cycle takes at most."""
    native: Native = "auto"
    """The compiled hot path: used where it is installed (`auto`), insisted on (`on`), or left alone (`off`)."""
    http_host: str = "127.0.0.1"
    """Address of this machine at which a worker answers `/metrics` and `/health`, to everybody who reaches it."""
    http_port: int = 0
    """The first port that a worker tries for that; one that is taken is passed over for the next. 0: any free one."""
    stall_timeout_s: int = 120
    """A worker with work to do that gets nothing done for so many seconds ends itself. Waiting for Postgres is no
    stall."""
    log_level: LogLevel = "INFO"

    def __post_init__(self) -> None:
        for name, problem in self._problems():
            raise SettingError(name, problem)

    def _problems(self) -> Iterator[tuple[str, str]]:
        yield from self._problems_of_choices()
        yield from self._problems_of_names()
        yield from self._problems_of_numbers()
        yield from self._problems_of_security()

    def _problems_of_choices(self) -> Iterator[tuple[str, str]]:
        for name, choices in (
            ("security_protocol", ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
            ("sasl_mechanism", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
            ("native", ("auto", "on", "off")),
            ("log_level", ("DEBUG", "INFO", "WARNING", "ERROR")),
        ):
            value = getattr(self, name)
            if value not in choices:
                yield name, f"expected one of {', '.join(choices)}; got {value!r}"

    def _problems_of_names(self) -> Iterator[tuple[str, str]]:
        if not _APP_VERSION.match(self.app_version):
            yield (
                "app_version",
                f"expected 1 to 48 of a-z, 0-9 and '-', as in 'v1'; got {self.app_version!r}",
            )
        if not _POSTGRES_NAME.match(self.schema) or self.schema.startswith("pg_"):
            yield (
                "schema",
                f"expected at most 63 of a-z, 0-9 and '_', not a digit or 'pg_' first; got {self.schema!r}",
            )
        if not self.source_topics:
            yield "source_topics", "expected at least one topic name; got none"
        for topic in self.source_topics:
            if not _TOPIC_NAME.match(topic) or topic in {".", ".."}:
                yield (
                    "source_topics",
                    f"expected names of letters, digits, '.', '_' and '-', at most 249 long; got {topic!r}",
                )
            if topic in self.internal_topics:
                yield "source_topics", f"{topic!r} is a topic that Tidemark writes itself; name another one"
        if len(set(self.source_topics)) != len(self.source_topics):
            yield "source_topics", f"expected each topic once; got {', '.join(self.source_topics)}"
        for blocked in self.blocked_ids:
            if "," in blocked or blocked != blocked.strip():
                yield "blocked_ids", f"expected ids without commas, and without space around them; got {blocked!r}"
        for address in filter(None, self.bootstrap_servers.split(",")):
            host, colon, port = address.strip().rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
                yield (
                    "bootstrap_servers",
                    f"expected 'host:port', several separated by commas; got {self.bootstrap_servers!r}",
                )
        if not self.http_host:
            yield "http_host", "expected an address of this machine, as '127.0.0.1' or '0.0.0.0'; got none"
        if self.dsn and not self.dsn.startswith(("postgresql://", "postgres://")):
            yield (
                "dsn",
                "expected 'postgresql://user:password@host:port/database'; got an address that begins otherwise",
            )

    def _problems_of_numbers(self) -> Iterator[tuple[str, str]]:
        for name in (
            "source_partitions",
            "leaves_partitions",
            "companies_partitions",
            "quarantine_partitions",
        ):
            value = getattr(self, name)
            if not 1 <= value <= _PARTITIONS_MAX:
                yield name, f"expected 1 to {_PARTITIONS_MAX} partitions; got {value}"
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                yield name, f"expected at least {least}; got {value}"
        if self.max_message_bytes > _MESSAGE_BYTES_MAX:
            yield (
                "max_message_bytes",
                f"expected at most {_MESSAGE_BYTES_MAX} bytes; got {self.max_message_bytes}",
            )
        if self.http_port > _PORT_MAX:
            yield "http_port", f"expected a port up to {_PORT_MAX}, or 0 for any free one; got {self.http_port}"
        if not _SESSION_TIMEOUT_S_MIN <= self.session_timeout_s <= _SESSION_TIMEOUT_S_MAX:
            yield (
                "session_timeout_s",
                f"expected {_SESSION_TIMEOUT_S_MIN} to {_SESSION_TIMEOUT_S_MAX} seconds; got {self.session_timeout_s}",
            )
        if self.min_insync_replicas > self.replication_factor:
            most = self.replication_factor
            yield (
                "min_insync_replicas",
                f"expected at most replication_factor, {most}; got {self.min_insync_replicas}",
            )

    def _problems_of_security(self) -> Iterator[tuple[str, str]]:
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    yield (
                        name,
                        f"expected a value, because security_protocol is {self.security_protocol}; got none",
                    )
        if self.ssl_key_file and not self.ssl_cert_file:
            yield "ssl_cert_file", "expected the certificate that belongs to ssl_key_file; got none"
        if self.security_protocol != "PLAINTEXT" and not self.bootstrap_servers:
            yield (
                "bootstrap_servers",
                f"expected an address: the embedded Kafka has no {self.security_protocol}; got none",
            )

    def __repr__(self) -> str:
        """All values, secrets masked."""
        shown = (
            f"{name}={'***' if name in SECRETS and getattr(self, name) else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"Settings({', '.join(shown)})"

    @property
    def app_id(self) -> str:
        """Faust's app id, the consumer group, and the prefix of every internal topic."""
        return OWN_PREFIX + self.app_version

    @property
    def leaves_topic(self) -> str:
        """Facts by leaf, in the order in which they are applied."""
        return f"{self.app_id}-leaves"

    @property
    def companies_topic(self) -> str:
        """Facts by company."""
        return f"{self.app_id}-companies"

    @property
    def quarantine_topic(self) -> str:
        """Records that were refused, with the reason (SEMANTICS S12)."""
        return f"{self.app_id}-quarantine"

    @property
    def leaves_changelog(self) -> str:
        """Changelog of the leaves table."""
        return f"{self.app_id}-leaves-changelog"

    @property
    def seen_changelog(self) -> str:
        """Changelog of the messages seen within the dedupe window."""
        return f"{self.app_id}-seen-changelog"

    @property
    def companies_changelog(self) -> str:
        """Changelog of the companies table."""
        return f"{self.app_id}-companies-changelog"

    @property
    def internal_topics(self) -> tuple[str, ...]:
        """Topics of this app version that nobody else may write."""
        return (
            self.leaves_topic,
            self.companies_topic,
            self.quarantine_topic,
            self.leaves_changelog,
            self.seen_changelog,
            self.companies_changelog,
        )
