"""What makes a restored machine one of its own, in the order in which it has to happen."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import sys

MIN_ENTROPY = 32
"""Bytes that a random pool needs to be one of its own (random(4): the kernel's generator has a key of so many)."""

ADDRESS_LENGTH = 6
"""Bytes of a network interface's address."""

_MACHINE_ID = re.compile(r"(?:[0-9a-f]{32})?")
_SIOCSIFHWADDR = 0x8924  # linux/sockios.h
_ARPHRD_ETHER = 1
_NETWORK = "/sys/class/net"


def is_machine_id(text: str) -> bool:
    """Whether this can be in /etc/machine-id (machine-id(5)), or is empty."""
    return _MACHINE_ID.fullmatch(text) is not None


def reseed_python() -> None:
    """Seeds Python's own generator anew, where something has loaded it before the machine was saved."""
    random = sys.modules.get("random")
    if random is not None:
        random.seed()


def set_network_address(address: bytes) -> None:
    """Gives the machine's one interface this address; raises OSError where it has none, or does not take it."""
    if len(address) != ADDRESS_LENGTH or address[0] & 1:
        raise ValueError("a network address has six bytes, and is not of a group")
    names = sorted(name for name in os.listdir(_NETWORK) if name != "lo")
    if not names:
        raise OSError("the machine has no network interface")
    # struct ifreq: the name, then a struct sockaddr (netdevice(7)).
    request = struct.pack("16sH14s", names[0].encode(), _ARPHRD_ETHER, address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFHWADDR, request)
