"""The image builtin/python: an interpreter, BusyBox, and the few files that programs expect below /etc."""

from __future__ import annotations

from pathlib import Path

from guest.build.busybox import busybox
from guest.build.bytecode import compiled
from guest.build.inputs import Inputs
from guest.build.layout import write_layout
from guest.build.python import interpreter
from guest.build.tree import Directory, File, Node, Tree

CONFIG = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["python3"],
    "WorkingDir": "/",
}
"""The image's execution configuration (OCI image-spec, config.md)."""

ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/profile": "export PS1='\\u@\\h:\\w\\$ '\n",
}

DIRECTORIES = {
    **{name: Directory() for name in ("dev", "home", "proc", "run", "sys", "usr/local/bin", "var")},
    "root": Directory(0o700),
    "tmp": Directory(0o1777),
    "var/tmp": Directory(0o1777),
}

TERMINALS = ("dumb", "linux", "screen", "screen-256color", "tmux", "tmux-256color", "vt100", "xterm", "xterm-256color")
"""Descriptions for readline and curses, taken along where the host has them."""


def write_image(inputs: Inputs, directory: Path) -> str:
    """Write builtin/python as an OCI image layout; raises `BuildError` when a part is missing on this host.

    Returns its key: the manifest's SHA-256 in hexadecimal.
    """
    return write_layout(image_tree(inputs), directory, tag="latest", config=CONFIG)


def image_tree(inputs: Inputs) -> Tree:
    """The image's root file system."""
    python = interpreter(inputs)
    etc: Tree = {path: File(text.encode()) for path, text in ETC.items()}
    directories: dict[str, Node] = dict(DIRECTORIES)
    return busybox(inputs) | python | compiled(python) | etc | directories | _terminals(inputs)


def _terminals(inputs: Inputs) -> Tree:
    """The compiled descriptions, at terminfo(5)'s place: /usr/share/terminfo/FIRST-LETTER/NAME."""
    places = [Path(place) for place in ("/usr/share/terminfo", "/lib/terminfo", "/etc/terminfo")]
    found = {
        f"usr/share/terminfo/{name[0]}/{name}": place / name[0] / name
        for name in TERMINALS
        for place in places
        if (place / name[0] / name).is_file()
    }
    return {path: File(inputs.read(file)) for path, file in found.items()}
