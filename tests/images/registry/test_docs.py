"""docs/registries.md says what is: its file is read, its program can be run, and its map has every module."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from boxlite.images.registry.config import Credentials, Registry, RegistryConfig
from boxlite.images.registry.config_file import read_registry_config

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/registries.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```\n", PAGE, re.DOTALL)


def test_the_file_of_the_page_is_read_and_says_all_that_can_be_said(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    file = tmp_path / "registries.toml"
    file.write_text(text)
    config = read_registry_config(file)
    assert config.registries["registry.example.org"].ca_file == tmp_path / "ca.pem"
    for field in attrs.fields(RegistryConfig):
        if field.name not in ("credentials", "certificate_directories", "registries"):
            assert f"\n{field.name} = " in text or f"\n[{field.name}]" in text
    for field in attrs.fields(Registry):
        assert f"\n{field.name} = " in text


def test_the_defaults_that_the_page_names_are_the_ones() -> None:
    config = RegistryConfig()
    assert "default is Docker's own registry alone" in PAGE
    assert config.search == ("docker.io",)
    assert "Five tries" in PAGE
    assert config.attempts == 5


def test_the_program_of_the_page_configures_what_it_says() -> None:
    (program,) = blocks("python")
    names: dict[str, Any] = {}
    # Without its last line, which would want that registry.
    exec(program.removesuffix("trio.run(main)\n"), names)
    assert names["REGISTRIES"].credentials == {"registry.example.org": Credentials("someone", "a password")}
    assert program.endswith("trio.run(main)\n")


def test_every_module_is_on_the_map() -> None:
    for module in (ROOT / "boxlite/images/registry").glob("*.py"):
        assert module.name == "__init__.py" or f"`{module.name}`" in PAGE
