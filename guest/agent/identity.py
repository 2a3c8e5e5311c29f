"""What makes a restored machine one of its own, in the order in which it has to happen."""

from __future__ import annotations

import _socket
import fcntl
import posix
import sys

MIN_ENTROPY = 32
"""Bytes that a random pool needs to be one of its own (random(4): the kernel's generator has a key of so many)."""

ADDRESS_LENGTH = 6
"""Bytes of a network interface's address."""

_MACHINE_ID_LENGTH = 32
_HEXADECIMAL = frozenset("0123456789abcdef")
_SIOCSIFHWADDR = 0x8924  # linux/sockios.h
_ARPHRD_ETHER = 1
_NETWORK = "/sys/class/net"


def is_machine_id(text: str) -> bool:
    """Whether this can be in /etc/machine-id (machine-id(5)), or is empty."""
    return len(text) in (0, _MACHINE_ID_LENGTH) and _HEXADECIMAL.issuperset(text)


def set_network_address(address: bytes) -> None:
    """Gives the machine's one interface this address; raises OSError where it has none, or does not take it."""
    if len(address) != ADDRESS_LENGTH or address[0] & 1:
        raise ValueError("a network address has six bytes, and is not of a group")
    names = sorted(name for name in posix.listdir(_NETWORK) if name != "lo")
    if not names:
        raise OSError("the machine has no network interface")
    # struct ifreq: the name, then a struct sockaddr (netdevice(7)).
    request = names[0].encode().ljust(16, b"\0") + _ARPHRD_ETHER.to_bytes(2, sys.byteorder) + address.ljust(14, b"\0")
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(sock, _SIOCSIFHWADDR, request)
    finally:
        sock.close()
