"""Images that a local Docker or Podman has: both give an archive over a Unix socket (docs.docker.com/reference/api).

It loads httpx at the first use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs
import trio

from boxlite.errors import DaemonUnavailable, ImageNotFound, InvalidOptions
from boxlite.images.schema import get_string, parse_object
from boxlite.images.store.files import storage_errors
from boxlite.printable import printable

_MAX_ERROR: Final = 64 * 1024


@attrs.frozen
class _Daemon:
    title: str
    variable: str
    """Of the environment; it says where the daemon is."""
    sockets: tuple[str, ...]
    """Where else it may be; `{run}` is $XDG_RUNTIME_DIR."""


_DAEMONS: Final = {
    "docker": _Daemon("Docker", "DOCKER_HOST", ("/var/run/docker.sock", "/run/docker.sock", "{run}/docker.sock")),
    "podman": _Daemon("Podman", "CONTAINER_HOST", ("{run}/podman/podman.sock", "/run/podman/podman.sock")),
}
DAEMONS: Final = tuple(_DAEMONS)
"""By the names that users give."""


def find_socket(daemon: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The daemon's socket. Raises `InvalidOptions` for an unknown daemon, and `DaemonUnavailable`."""
    known = _DAEMONS.get(daemon)
    if known is None:
        raise InvalidOptions(f"there is no daemon {daemon!r} to load images from: use {' or '.join(DAEMONS)}")
    if host := environment.get(known.variable):
        scheme, _, path = host.partition("://")
        if scheme != "unix" or not path.startswith("/"):
            raise DaemonUnavailable(
                f"{known.variable} is {host!r}: images are loaded over a Unix socket alone (unix:///PATH); elsewhere, "
                f"use `{daemon} save` and `boxlite load`"
            )
        places = [Path(path)]
    else:
        run = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        places = [Path(place.format(run=run)) for place in known.sockets]
    for place in places:
        if _is_socket(place):
            return place
    raise DaemonUnavailable(
        f"{known.title} does not run here: there is no socket at {' or '.join(map(str, places))}: start it, or set "
        f"{known.variable} to unix:///PATH"
    )


async def fetch(daemon: str, name: str, target: Path) -> None:
    """Writes the archive of an image of that daemon to a new file.

    Raises `InvalidOptions`, `DaemonUnavailable`, `ImageNotFound`, `StorageFull` and OSError.
    """
    import httpx

    socket = find_socket(daemon)
    title = _DAEMONS[daemon].title
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    # It packs the image before it sends anything, and nobody asked us to give up meanwhile.
    async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:
        try:
            async with client.stream("GET", f"http://{daemon}/images/{quote(name, safe='/:@')}/get") as response:
                if response.status_code != httpx.codes.OK:
                    reason = await _reason(response)
                    if response.status_code == httpx.codes.NOT_FOUND:
                        raise ImageNotFound(f"{title} has no image {name}: {reason}")
                    raise DaemonUnavailable(f"{title} does not give the image {name}: {reason}")
                with storage_errors(f"the archive of {name}"):
                    async with await trio.open_file(target, "xb") as file:
                        async for chunk in response.aiter_bytes():
                            await file.write(chunk)
        except httpx.HTTPError as error:
            raise DaemonUnavailable(f"{title} at {socket} failed while it gave {name}: {error}") from error


async def _reason(response: object) -> str:
    """What it says of an error: JSON with a `message`, if it keeps to its manual."""
    import httpx

    assert isinstance(response, httpx.Response)
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _MAX_ERROR:
            break
    try:
        text = get_string(parse_object(body, ""), "message", "", "")
    except ValueError:
        text = body.decode(errors="replace")
    return " ".join(printable(text.encode()).split())[:500] or f"status {response.status_code}"


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
