"""What the host says to the agent on the kernel's command line."""

from __future__ import annotations


def read_argument(name: str) -> str:
    """The value of the first `name=value` on the command line; empty where there is none."""
    with open("/proc/cmdline") as file:
        for word in file.read().split():
            key, _, value = word.partition("=")
            if key == name:
                return value
    return ""
