"""Programs that keep a user's credentials: `docker-credential-NAME`, as Docker and Podman call them."""

from __future__ import annotations

import re
import shutil

import trio

from boxlite.errors import ImageDamaged, InvalidRegistryConfig
from boxlite.images.registry.config import Credentials
from boxlite.images.schema import get_string, parse_object
from boxlite.printable import printable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_NOT_FOUND = "credentials not found"
_TOKEN_NAME = "<token>"


async def ask_helper(name: str, registry: str) -> Credentials | None:
    """What the helper has for a registry, as its users name it; None where it has nothing.

    Cancellation ends the program. Raises `InvalidRegistryConfig` where it is missing, fails, or makes no sense.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRegistryConfig(f"{name!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    path = shutil.which(program)
    if path is None:
        raise InvalidRegistryConfig(
            f"the credentials for {registry} are kept by {program}, which is not in the PATH: "
            "install it, or take it out of the file of credentials"
        )
    try:
        done = await trio.run_process(
            [path, "get"],
            stdin=registry.encode(),
            capture_stdout=True,
            # A helper may ask its user something there.
            stderr=None,
            check=False,
        )
    except OSError as error:
        raise InvalidRegistryConfig(f"{path} does not start: {error}") from error
    if done.returncode != 0:
        # By this protocol the message comes on the standard output.
        message = printable(done.stdout[:500]).strip()
        if _NOT_FOUND in message.lower():
            return None
        raise InvalidRegistryConfig(
            f"{path} has no credentials for {registry}: {message or f'it ended with status {done.returncode}'}"
        )
    try:
        document = parse_object(done.stdout, f"the answer of {path}")
        username, secret = (get_string(document, key, f"the answer of {path}", "") for key in ("Username", "Secret"))
    except ImageDamaged as error:
        raise InvalidRegistryConfig(str(error)) from None
    if username == _TOKEN_NAME:
        return Credentials(identity_token=secret)
    return Credentials(username, secret) if secret else None
