"""Debian's docker-registry, on this machine's loopback, filled by skopeo."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

USER, PASSWORD = "someone", "a secret: ünsafe"
_HASH = "$2y$05$abcdefghijklmnopqrstuuWm8kds5sDlI6GL0xwQVOwXATQw6jL2m"
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
    drain = None
    try:
        port = _wait_for_port(process)
        # It goes on logging, and would wait for whoever does not read.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield Daemon(port)
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        if drain is not None:
            drain.wait()


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


def pushed_digest(daemon: Daemon, name: str) -> str:
    """What skopeo says that a name in such a registry is."""
    command = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{daemon.place}/{name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def htpasswd(file: Path) -> dict[str, Any]:
    """The configuration of a registry that knows `USER` alone."""
    file.write_text(f"{USER}:{_HASH}\n")
    return {"htpasswd": {"realm": "a test", "path": str(file)}}


def make_token(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, claims: Mapping[str, Any]) -> str:
    """A JSON web token as docker-registry wants it: signed by a key whose certificate goes along."""
    chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    parts = [_part({"typ": "JWT", "alg": "ES256", "x5c": chain}), _part(claims)]
    r, s = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    return ".".join((*parts, _base64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))))


def _part(document: Mapping[str, Any]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
