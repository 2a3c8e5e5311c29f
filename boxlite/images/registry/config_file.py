"""The user's file `registries.toml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from boxlite.errors import InvalidRegistryConfig
from boxlite.images.registry.config import Registry, RegistryConfig

FILE_NAME = "registries.toml"
_MAX_BYTES = 2**20
_NAMES = {"registries": "registry"}
"""What a field is called in the file, where that is another name."""
_NOT_IN_FILES = {"credentials", "certificate_directories"}


def find_registry_config(home: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """`registries.toml` in the home, else in $XDG_CONFIG_HOME/boxlite (~/.config/boxlite); None where neither is."""
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    for path in (home / FILE_NAME, Path(base).expanduser() / "boxlite" / FILE_NAME):
        if path.exists():
            return path
    return None


def load_registry_config(home: Path, environment: Mapping[str, str] = os.environ) -> RegistryConfig:
    """The user's configuration; the default one where there is no file. Raises `InvalidRegistryConfig`."""
    path = find_registry_config(home, environment)
    return RegistryConfig() if path is None else read_registry_config(path)


def read_registry_config(path: Path) -> RegistryConfig:
    """Reads one file. Raises `InvalidRegistryConfig`, which names the file and what is wrong."""
    import tomllib  # Most have no such file.

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InvalidRegistryConfig(f"it has more than {_MAX_BYTES} bytes")
        return _config(tomllib.loads(data.decode()), path.parent)
    except OSError as error:
        raise InvalidRegistryConfig(f"{path} cannot be read: {error.strerror}") from error
    except (InvalidRegistryConfig, ValueError, RecursionError) as error:  # tomllib's and Unicode's are ValueErrors.
        raise InvalidRegistryConfig(f"{path}: {error}: docs/registries.md shows what it may say") from error


def _config(document: dict[str, Any], base: Path) -> RegistryConfig:
    fields = {field.name: field for field in attrs.fields(RegistryConfig) if field.name not in _NOT_IN_FILES}
    by_name = {_NAMES.get(name, name): name for name in fields}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in by_name:
            raise InvalidRegistryConfig(f"{name!r} is not known; known are {', '.join(sorted(by_name))}")
        values[by_name[name]] = value
    if "search" in values:
        values["search"] = _texts("search", values["search"])
    if "credential_files" in values:
        files = _texts("credential_files", values["credential_files"])
        values["credential_files"] = tuple(_path(file, base) for file in files)
    if "aliases" in values:
        aliases = _table("aliases", values["aliases"])
        values["aliases"] = {short: _text(f"the alias {short}", full) for short, full in aliases.items()}
    if "registries" in values:
        tables = _table("registry", values["registries"])
        values["registries"] = {name: _registry(name, table, base) for name, table in tables.items()}
    return RegistryConfig(**values)


def _registry(name: str, value: object, base: Path) -> Registry:
    table = _table(f'registry."{name}"', value)
    known = {field.name: str(field.type) for field in attrs.fields(Registry)}
    values: dict[str, Any] = {}
    for key, item in table.items():
        where = f"{key} of the registry {name}"
        if key not in known:
            raise InvalidRegistryConfig(f"{where} is not known; known are {', '.join(sorted(known))}")
        if "bool" in known[key]:
            if not isinstance(item, bool):
                raise InvalidRegistryConfig(f"{where} is true or false, and not {item!r}")
            values[key] = item
        elif "Path" in known[key]:
            values[key] = _path(_text(where, item), base)
        elif "Sequence" in known[key]:
            values[key] = _texts(where, item)
        else:
            values[key] = _text(where, item)
    return Registry(**values)


def _table(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRegistryConfig(f"{where} is a table, and not {value!r}")
    return value


def _texts(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidRegistryConfig(f"{where} is a list of texts, and not {value!r}")
    return tuple(_text(where, item) for item in value)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidRegistryConfig(f"{where} is a text, and not {value!r}")
    return value


def _path(text: str, base: Path) -> Path:
    """A relative one starts at the folder of the file."""
    return base / Path(text).expanduser()
