"""Reading the settings: environment over TOML file over defaults, each error with the name and the source."""

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from contracts.errors import SettingError
from contracts.settings import SECRETS, Settings

PREFIX = "TIDEMARK_"
CONFIG_VARIABLE = "TIDEMARK_CONFIG"
"""Names the TOML file; not a setting itself."""
_TESTS_PREFIX = "TIDEMARK_TEST_"

_FIELDS = get_type_hints(Settings)
_EXPECTED = {
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    tuple: "a list of texts",
}


def load_settings(
    data_dir: Path | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] = types.MappingProxyType(os.environ),
) -> Settings:
    """The settings of this run.

    `data_dir` and `config` are what the command line says, and go before everything else. The TOML file is
    `config`, else `TIDEMARK_CONFIG`, else `<data_dir>/tidemark.toml` if it exists; it holds settings by their
    names, without tables. In the environment, lists are separated by commas.

    Raises SettingError: unknown name, value of the wrong kind or out of its limits, unreadable file.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    from_environment = _read_environment(environ)
    early = data_dir or Path(from_environment.get("data_dir", str(Settings().data_dir)))
    path = _config_path(early, config, environ)
    if path is not None:
        for name, value in _read_file(path).items():
            values[name] = _converted(name, value, str(path), strict=True)
            sources[name] = str(path)
    for name, text in from_environment.items():
        variable = PREFIX + name.upper()
        values[name] = _converted(name, text, variable, strict=False)
        sources[name] = variable
    if data_dir is not None:
        values["data_dir"] = data_dir
        sources["data_dir"] = "--data-dir"
    try:
        return Settings(**values)
    except SettingError as error:
        raise SettingError(error.setting, error.problem, sources.get(error.setting, "")) from None


def settings_environ(settings: Settings) -> dict[str, str]:
    """The environment from which `load_settings` makes the same settings again: what a worker is told."""
    return {PREFIX + name.upper(): _as_text(getattr(settings, name)) for name in Settings.__struct_fields__}


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _config_path(data_dir: Path, config: Path | None, environ: Mapping[str, str]) -> Path | None:
    for source, named in (("--config", config), (CONFIG_VARIABLE, environ.get(CONFIG_VARIABLE))):
        if named:
            path = Path(named)
            if not path.is_file():
                raise SettingError("config", f"expected a TOML file; {path} is none", source)
            return path
    path = data_dir / "tidemark.toml"
    return path if path.is_file() else None


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(_TESTS_PREFIX):
            continue
        if variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        _require_known(name, variable)
        found[name] = text
    return found


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise SettingError("config", f"expected a TOML file; {error}", str(path)) from error
    for name, value in found.items():
        if isinstance(value, dict):
            raise SettingError(name, "expected settings by their names alone, without tables; got a table", str(path))
        _require_known(name, str(path))
    return found


def _require_known(name: str, source: str) -> None:
    if name in _FIELDS:
        return
    near = difflib.get_close_matches(name, _FIELDS, n=1)
    raise SettingError(
        name,
        "there is no such setting" + (f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(_FIELDS)}"),
        source,
    )


def _converted(name: str, value: object, source: str, *, strict: bool) -> object:
    kind = _FIELDS[name]
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if get_origin(kind) is tuple and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        shown = "a value that is not shown" if name in SECRETS else repr(value)
        raise SettingError(name, f"expected {_expected(kind)}; got {shown}", source) from None


def _expected(kind: Any) -> str:  # noqa: ANN401 - a type hint
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    return _EXPECTED[get_origin(kind) or kind]
