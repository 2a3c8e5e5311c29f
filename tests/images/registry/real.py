"""Debian's docker-registry, on this machine's loopback, filled by skopeo."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

USER, PASSWORD = "someone", "a secret: ünsafe"
_HASH = "@HASH@"
_LISTENING = re.compile(rb"listening on [^ ]*?:([0-9]+)")


@attrs.frozen
class Daemon:
    """A registry that runs, at 127.0.0.1:`port`."""

    port: int

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def open_registry(
    directory: Path,
    storage: Path,
    *,
    auth: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
    proxy: str | None = None,
) -> Iterator[Daemon]:
    """Runs a registry over the files in `storage`. `auth` and `http` are parts of its configuration."""
    program = shutil.which("docker-registry")
    assert program is not None, "install docker-registry"
    directory.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, too.
    configuration = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", **(http or {})},
        **({"auth": dict(auth)} if auth else {}),
    }
    file = directory / "config.yml"
    file.write_text(json.dumps(configuration))
    log = directory / "log"
    with log.open("wb") as stdout:
        process = subprocess.Popen([program, "serve", str(file)], stdout=stdout, stderr=subprocess.PIPE)
    try:
        yield Daemon(_wait_for_port(process))
    finally:
        process.kill()
        process.communicate()


def _wait_for_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stderr is not None
    said = b""
    for line in process.stderr:
        said += line
        if match := _LISTENING.search(line):
            return int(match[1])
    raise AssertionError(f"docker-registry does not start: {said.decode()}")


def push(layout: Path, tag: str, daemon: Daemon, name: str, *options: str) -> None:
    """Copies an image of a layout into a registry that asks for nothing."""
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", *options]
    subprocess.run([*command, f"oci:{layout}:{tag}", f"docker://{daemon.place}/{name}"], check=True)
