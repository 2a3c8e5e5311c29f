"""What is set for connections and cannot be used is told with its name."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
import trustme

from boxlite.errors import InvalidRegistryConfig, RegistryUnavailable
from boxlite.images.registry.config import Registry, RegistryConfig
from boxlite.images.registry.connections import open_transport
from boxlite.images.registry.tls import make_context

PLACE = "r.test:5000"


def config(ca_file: Path) -> RegistryConfig:
    return RegistryConfig(certificate_directories=(), registries={PLACE: Registry(ca_file=ca_file)})


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff"])
def test_a_file_without_authorities_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRegistryConfig, match=r"ca\.pem"):
        make_context(PLACE, config(ca_file=file))


def test_a_certificate_without_its_key_is_named(tmp_path: Path) -> None:
    folder = tmp_path / PLACE
    folder.mkdir()
    trustme.CA().issue_cert("me@test").cert_chain_pems[0].write_to_path(folder / "me.cert")
    with pytest.raises(InvalidRegistryConfig, match=r"me\.key"):
        make_context(PLACE, RegistryConfig(certificate_directories=[tmp_path]))


def test_what_is_set_for_one_place_is_for_no_other(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    known = config(ca_file=file)

    def authorities(place: str) -> int:
        return len(make_context(place, known).get_ca_certs())

    assert authorities(PLACE) == authorities("r.test") + 1
    assert make_context("r.test", known).verify_mode is ssl.CERT_REQUIRED
    assert make_context(PLACE, known).check_hostname


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "ftp://x", "http://x:y"])
def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(RegistryUnavailable, match="HTTPS_PROXY"):
        open_transport(httpx.URL("https://r.test/"), RegistryConfig())
