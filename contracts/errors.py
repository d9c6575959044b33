"""Every error that Tidemark raises on purpose.

    TidemarkError
    ├── SettingError                a setting is unknown, malformed, or contradicts another
    ├── ServiceError                Kafka or Postgres cannot be started or reached
    │   ├── AlreadyRunningError     another process runs the services of this data directory
    │   ├── DiskFullError           too little room for what has to be written
    │   ├── DownloadError           a jar could not be fetched, or is not the one that was pinned
    │   ├── PortTakenError          a port of this data directory belongs to another process
    │   ├── StartTimeoutError       a service did not answer in time
    │   └── WrongArchitectureError  a bundled binary does not run on this machine
    ├── PositionError               a stored position lies outside its topic
    ├── FencedError                 another worker owns the partition
    └── InternalError               a promise between two parts of Tidemark was broken: a bug

A message says what was expected, what came, and what to do.
What is wrong with a *message* is never an error but an outcome (SEMANTICS S12).
"""


class TidemarkError(Exception):
    """Something Tidemark cannot go on without, told to the person who runs it."""


class SettingError(TidemarkError):
    """A setting is unknown, malformed, or contradicts another.

    `setting` is its name, `problem` says what was expected and what came, `source` where it was read:
    an environment variable, a line of a file, or empty where it came from code.
    """

    def __init__(self, setting: str, problem: str, source: str = "") -> None:
        self.setting = setting
        self.problem = problem
        self.source = source
        where = f" (from {source})" if source else ""
        super().__init__(f"setting {setting!r}{where}: {problem}")


class ServiceError(TidemarkError):
    """Kafka or Postgres cannot be started or reached."""


class AlreadyRunningError(ServiceError):
    """Another process runs the services of this data directory."""


class DiskFullError(ServiceError):
    """Too little room on a disk for what has to be written."""


class DownloadError(ServiceError):
    """A jar could not be fetched, or is not the one that was pinned."""


class PortTakenError(ServiceError):
    """A port that belongs to this data directory is held by another process."""


class StartTimeoutError(ServiceError):
    """A service was started and did not answer in time."""


class WrongArchitectureError(ServiceError):
    """A bundled binary is missing for this machine, or does not run on it."""


class PositionError(TidemarkError):
    """A stored position lies outside its topic: the topic was cut, recreated, or is another one."""


class FencedError(TidemarkError):
    """Another worker has taken the partition: this one must let go of it at once."""


class InternalError(TidemarkError):
    """A promise between two parts of Tidemark was broken: a bug, to be reported with its traceback."""
