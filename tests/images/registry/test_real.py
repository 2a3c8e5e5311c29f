"""Pulls from Debian's docker-registry, as it comes: without and with passwords, tokens and TLS, and over a bad line."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from boxlite.errors import AuthenticationFailed, ImageNotFound, RegistryMisbehaved, RegistryUnavailable
from boxlite.images.blobs import Descriptor
from boxlite.images.disk import build_disk
from boxlite.images.layout import find_image, host_architecture
from boxlite.images.reference import parse_registry_reference
from boxlite.images.registry.config import Registry, RegistryConfig
from boxlite.images.registry.pull import pull_image, resolve_image
from boxlite.images.store.blobs import BlobStore
from tests.images.archives import archive, file
from tests.images.disks import mounted
from tests.images.layouts import INDEX, TAG, digest, put_image, put_json, write_index, write_layout
from tests.images.registry.content import noise, platform
from tests.images.registry.faults import Cut, FaultProxy, forward
from tests.images.registry.real import PASSWORD, USER, Daemon, htpasswd, make_token, open_registry, push, pushed_digest
from tests.images.registry.web import Request, Response, answer, open_server, refusal

SECONDS = 60
"""A real line has no virtual time; nothing here takes a tenth of this."""


@attrs.frozen
class Filled:
    """A registry that asks for nothing, and what it was filled with."""

    daemon: Daemon
    storage: Path
    layout: Path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """team/app:1 in OCI's format and :docker in Docker's, and :both for two architectures."""
    directory = tmp_path_factory.mktemp("registry")
    archives = [archive(file(b"small", b"1")), archive(file(b"large", noise(2_000_000)))]
    layout = write_layout(directory / "layout", archives, compression="+gzip")
    other = put_image(directory / "both", [archive(file(b"x", b"1"))], architecture="mips")
    ours = put_image(directory / "both", archives)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [platform(other, "mips"), platform(ours)]}
    both = put_json(directory / "both", index, INDEX)
    write_index(directory / "both", both | {"annotations": {TAG: "latest"}})
    with open_registry(directory / "open", directory / "storage") as daemon:
        push(layout, "latest", daemon, "team/app:1")
        push(layout, "latest", daemon, "team/app:docker", "--format", "v2s2")
        push(directory / "both", "latest", daemon, "team/app:both", "--all")
        yield Filled(daemon, directory / "storage", layout)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials, certificates or proxies but those of the test."""
    home = tmp_path / "user"
    (home / "run").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    return home


async def pull(name: str, store: Path, config: RegistryConfig | None = None) -> Descriptor:
    with trio.fail_after(SECONDS):
        return await pull_image(
            parse_registry_reference(name),
            BlobStore(store),
            config=config or RegistryConfig(certificate_directories=()),
            architecture=host_architecture(),
        )


def check_store(store: Path, filled: Filled, manifest: Descriptor) -> None:
    """All blobs of the image are there, and they are the ones that were pushed."""
    blobs = {path.name: path.read_bytes() for path in (store / "blobs/sha256").iterdir()}
    assert all(digest(data) == f"sha256:{name}" for name, data in blobs.items())
    pushed = {path.name for path in (filled.layout / "blobs/sha256").iterdir()}
    assert manifest.digest.hex in blobs
    if manifest.digest.hex in pushed:
        assert set(blobs) == pushed


async def test_an_image_that_skopeo_has_pushed_becomes_a_disk(filled: Filled, tmp_path: Path) -> None:
    name = f"{filled.daemon.place}/team/app:1"
    manifest = await pull(name, tmp_path / "store")
    assert str(manifest.digest) == pushed_digest(filled.daemon, "team/app:1")
    check_store(tmp_path / "store", filled, manifest)
    document = {"mediaType": manifest.media_type, "digest": str(manifest.digest), "size": manifest.size}
    write_index(tmp_path / "store", document)
    image = find_image(tmp_path / "store", None, host_architecture())
    build_disk(image.layers, tmp_path / "disk")
    assert mounted(tmp_path / "disk")[b"large"].content == noise(2_000_000)


async def test_dockers_format_is_read_too(filled: Filled, tmp_path: Path) -> None:
    manifest = await pull(f"{filled.daemon.place}/team/app:docker", tmp_path / "store")
    assert manifest.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    check_store(tmp_path / "store", filled, manifest)


async def test_of_an_index_this_machines_image_is_taken(filled: Filled, tmp_path: Path) -> None:
    manifest = await pull(f"{filled.daemon.place}/team/app:both", tmp_path / "store")
    assert manifest.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert str(manifest.digest) != pushed_digest(filled.daemon, "team/app:both")
    check_store(tmp_path / "store", filled, manifest)


async def test_a_name_that_is_not_there_is_not_found(filled: Filled) -> None:
    for name in ("team/app:2", "team/nothing", "team/app@sha256:" + "0" * 64):
        with pytest.raises(ImageNotFound, match="unknown"):
            await resolve_image(
                parse_registry_reference(f"{filled.daemon.place}/{name}"),
                config=RegistryConfig(),
                architecture=host_architecture(),
            )


async def test_a_host_that_does_not_exist_is_not_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable, match=r"nowhere\.invalid cannot be reached: .*not known") as caught:
        await pull("nowhere.invalid/team/app:1", tmp_path / "store")
    assert "tried" not in str(caught.value)


async def test_a_bad_line_is_resumed(filled: Filled, tmp_path: Path) -> None:
    large = max((filled.layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).name
    proxy = FaultProxy(forward(filled.daemon.place), [Cut(700_000), Cut(900_000)], part=large)
    async with open_server(proxy.answer, proxy.send) as port:
        config = RegistryConfig(registries={f"127.0.0.1:{port}": Registry(plain_http=True)})
        manifest = await pull(f"127.0.0.1:{port}/team/app:1", tmp_path / "store", config)
    check_store(tmp_path / "store", filled, manifest)
    assert len([request for request in proxy.requests if "range" in request.headers]) == 2


async def test_cancelling_closes_everything_at_once(filled: Filled, tmp_path: Path) -> None:
    asked, left = trio.Event(), trio.Semaphore(0)

    async def silent(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        if "/blobs/" not in request.path:
            await stream.send_all(wire)
            return
        await stream.send_all(wire[: len(wire) // 2])
        asked.set()
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some(1) == b""
        left.release()

    async with open_server(forward(filled.daemon.place), silent) as port:
        config = RegistryConfig(registries={f"127.0.0.1:{port}": Registry(plain_http=True)}, parallel_downloads=1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull, f"127.0.0.1:{port}/team/app:1", tmp_path / "store", config)
            await asked.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(SECONDS):
            await left.acquire()


async def test_a_manifest_of_a_hundred_megabytes_is_refused_while_it_comes(tmp_path: Path) -> None:
    sent = 0

    async def huge(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        nonlocal sent
        for _ in range(100):
            await stream.send_all(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            sent += 2**20

    async def head(request: Request) -> Response:
        return Response(200, (("Transfer-Encoding", "chunked"),))

    async def send(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        await stream.send_all(wire)
        await huge(stream, request, wire)

    async with open_server(head, send) as port:
        config = RegistryConfig(registries={f"127.0.0.1:{port}": Registry(plain_http=True)})
        with pytest.raises(RegistryMisbehaved, match="4194304 are allowed"):
            await pull(f"127.0.0.1:{port}/team/app:1", tmp_path / "store", config)
    # What the sockets hold of it is not read.
    assert sent < 30 * 2**20


# Passwords


@pytest.fixture(scope="module")
def basic(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("basic")
    with open_registry(directory, filled.storage, auth=htpasswd(directory / "htpasswd")) as daemon:
        yield daemon


def log_in(daemon: Daemon, *options: str) -> None:
    command = ["skopeo", "login", "--tls-verify=false", "--username", USER, "--password-stdin", *options, daemon.place]
    subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True)


async def test_the_password_that_skopeo_keeps_is_used(
    filled: Filled, basic: Daemon, nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AuthenticationFailed, match="skopeo login"):
        await pull(f"{basic.place}/team/app:1", tmp_path / "store")
    log_in(basic)
    check_store(tmp_path / "store", filled, await pull(f"{basic.place}/team/app:1", tmp_path / "store"))


async def test_the_password_that_docker_keeps_is_used(
    filled: Filled, basic: Daemon, nobody: Path, tmp_path: Path
) -> None:
    (nobody / ".docker").mkdir()
    log_in(basic, "--authfile", str(nobody / ".docker/config.json"))
    check_store(tmp_path / "store", filled, await pull(f"{basic.place}/team/app:1", tmp_path / "store"))


async def test_a_helper_is_asked_for_the_password(
    filled: Filled, basic: Daemon, nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = nobody / "bin/docker-credential-drawer"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = get ] && [ "$(cat)" = {basic.place} ]; then\n'
        f"""printf '%s' '{json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})}'\n"""
        "else echo credentials not found in native keychain; exit 1; fi\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    (nobody / ".docker").mkdir()
    (nobody / ".docker/config.json").write_text('{"credsStore": "drawer"}')
    check_store(tmp_path / "store", filled, await pull(f"{basic.place}/team/app:1", tmp_path / "store"))
    with pytest.raises(RegistryUnavailable, match="reached"):
        await pull("127.0.0.1:1/team/app:1", tmp_path / "store", RegistryConfig(attempts=1))


# Tokens


async def test_tokens_are_fetched_for_a_registry_that_wants_them(
    filled: Filled, authority: trustme.CA, nobody: Path, tmp_path: Path
) -> None:
    leaf = authority.issue_cert("tokens.test")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    asked: list[Request] = []

    async def tokens(request: Request) -> Response:
        asked.append(request)
        if "authorization" not in request.headers:
            return refusal(401, "UNAUTHORIZED", "who are you")
        kind, name, actions = request.query["scope"].split(":")
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": "a test",
            "sub": request.query["account"],
            "aud": request.query["service"],
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": "1",
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        return answer({"token": make_token(key, certificate, claims), "expires_in": 300})

    async with open_server(tokens) as port:
        auth = {
            "token": {
                "realm": f"http://127.0.0.1:{port}/token",
                "service": "a registry",
                "issuer": "a test",
                "rootcertbundle": str(tmp_path / "ca.pem"),
            }
        }
        with open_registry(tmp_path / "registry", filled.storage, auth=auth) as daemon:
            with pytest.raises(AuthenticationFailed, match="who are you"):
                await pull(f"{daemon.place}/team/app:1", tmp_path / "store")
            document = {"auths": {daemon.place: {"auth": base64.b64encode(b"someone:secret").decode()}}}
            (nobody / "auth.json").write_text(json.dumps(document))
            config = RegistryConfig(credential_files=[nobody / "auth.json"])
            manifest = await pull(f"{daemon.place}/team/app:1", tmp_path / "store", config)
    check_store(tmp_path / "store", filled, manifest)
    assert len(asked) == 2


# TLS


@pytest.fixture(scope="module")
def secure(filled: Filled, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("tls")
    leaf = authority.issue_cert("127.0.0.1", "registry.test")
    leaf.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    pem = str(directory / "server.pem")
    with open_registry(directory, filled.storage, http={"tls": {"certificate": pem, "key": pem}}) as daemon:
        yield daemon


async def test_a_certificate_of_an_unknown_authority_is_refused_at_once(secure: Daemon, tmp_path: Path) -> None:
    """On loopback too, where a registry without TLS would do."""
    with pytest.raises(RegistryUnavailable, match=r"certificate of 127\.0\.0\.1 is not trusted.*ca_file"):
        await pull(f"{secure.place}/team/app:1", tmp_path / "store")


@pytest.mark.parametrize("way", ["configured", "environment", "directory"])
async def test_an_authority_of_ones_own_is_believed_where_it_is_named(
    filled: Filled,
    secure: Daemon,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    folder = tmp_path / "certs.d" / secure.place
    folder.mkdir(parents=True)
    pem = folder / "ca.crt" if way == "directory" else tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    config = RegistryConfig(certificate_directories=[tmp_path / "certs.d"])
    if way == "configured":
        config = attrs.evolve(config, registries={secure.place: Registry(ca_file=pem)})
    elif way == "environment":
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    manifest = await pull(f"{secure.place}/team/app:1", tmp_path / "store", config)
    check_store(tmp_path / "store", filled, manifest)


async def test_a_proxy_of_the_environment_is_gone_through(
    filled: Filled, secure: Daemon, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a tunnel, in which TLS goes on to the registry. Only the proxy knows where that is."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    seen: list[bytes] = []

    async def tunnel(stream: trio.SocketStream) -> None:
        head = await stream.receive_some(65536)
        seen.append(bytes(head))
        await stream.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
        async with stream, await trio.open_tcp_stream("127.0.0.1", secure.port) as far, trio.open_nursery() as nursery:

            async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                try:
                    async for data in source:
                        await sink.send_all(data)
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(copy, stream, far)
            nursery.start_soon(copy, far, stream)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, tunnel, listeners)
        port = listeners[0].socket.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{port}")
        config = RegistryConfig(registries={"registry.test": Registry(ca_file=tmp_path / "ca.pem")})
        manifest = await pull("registry.test/team/app:1", tmp_path / "store", config)
        check_store(tmp_path / "store", filled, manifest)
        assert seen[0].startswith(b"CONNECT registry.test:443 ")
        assert b"Proxy-Authorization: Basic" in seen[0]
        monkeypatch.setenv("NO_PROXY", ".test")
        with pytest.raises(RegistryUnavailable, match="its name is not known"):
            await pull("registry.test/team/app:1", tmp_path / "other", attrs.evolve(config, attempts=1))
        nursery.cancel_scope.cancel()


async def test_a_certificate_is_shown_to_a_registry_that_wants_one(
    filled: Filled, authority: trustme.CA, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("someone@test").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    async with open_server(forward(filled.daemon.place), tls=context) as port:
        place = f"127.0.0.1:{port}"
        known = Registry(ca_file=tmp_path / "ca.pem", client_certificate=tmp_path / "me.pem")
        config = RegistryConfig(registries={place: known}, attempts=1)
        check_store(tmp_path / "store", filled, await pull(f"{place}/team/app:1", tmp_path / "store", config))
        stranger = attrs.evolve(config, registries={place: attrs.evolve(known, client_certificate=None)})
        with pytest.raises(RegistryUnavailable):
            await pull(f"{place}/team/app:1", tmp_path / "other", stranger)
