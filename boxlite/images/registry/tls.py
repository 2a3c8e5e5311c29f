"""Which certificates are believed, and which are shown."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from boxlite.errors import InvalidRegistryConfig
from boxlite.images.registry.config import RegistryConfig


def make_context(place: str, config: RegistryConfig) -> ssl.SSLContext:
    """For connections to `HOST[:PORT]`: the system's authorities ($SSL_CERT_FILE and $SSL_CERT_DIR in their place) and
    those that are configured for it. Raises `InvalidRegistryConfig`. Reads files."""
    registry = config.of(place)
    files = list(_certificate_files(place, config))
    if registry.ca_file is None and registry.client_certificate is None and not files:
        return _system_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context = _new_context()
    if registry.ca_file is not None:
        _load_authorities(context, registry.ca_file.expanduser())
    if registry.client_certificate is not None:
        _load_own(context, registry.client_certificate, registry.client_key)
    for file in files:
        if file.suffix == ".crt":
            _load_authorities(context, file)
        elif file.suffix == ".cert":
            _load_own(context, file, file.with_suffix(".key"))
    return context


@functools.lru_cache(maxsize=4)
def _system_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    """One for all, since it takes a tenth of a second to read all authorities. The arguments are what it depends on."""
    return _new_context()


def _new_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not _has_authorities():
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _certificate_files(place: str, config: RegistryConfig) -> Iterator[Path]:
    for directory in config.certificate_directories:
        folder = directory.expanduser() / place
        try:
            yield from sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidRegistryConfig(f"the certificates in {folder} cannot be read: {error.strerror}") from error


def _has_authorities() -> bool:
    """Whether OpenSSL finds any where it looks on its own."""
    paths = ssl.get_default_verify_paths()
    if os.environ.get(paths.openssl_cafile_env) or os.environ.get(paths.openssl_capath_env) or paths.cafile:
        return True
    return paths.capath is not None and any(os.scandir(paths.capath))


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except OSError as error:  # An SSLError is one, too.
        raise InvalidRegistryConfig(f"{file} has no certificates of authorities that can be read: {error}") from error


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        # A password of the key would be asked for on the terminal.
        context.load_cert_chain(certificate.expanduser(), key and key.expanduser(), password=lambda: "")
    except OSError as error:
        raise InvalidRegistryConfig(
            f"the certificate {certificate} cannot be used with its key {key or 'in the same file'}: {error}"
        ) from error
