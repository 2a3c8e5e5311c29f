"""What makes a restored machine one of its own, in the order in which it has to happen."""

from __future__ import annotations

import _socket
import fcntl
import posix
import sys

from guest.agent.files import exists

MIN_ENTROPY = 32
"""Bytes that a random pool needs to be one of its own (random(4): the kernel's generator has a key of so many)."""

ADDRESS_LENGTH = 6
"""Bytes of a network interface's address."""

_MACHINE_ID_LENGTH = 32
_HEXADECIMAL = frozenset("0123456789abcdef")
_GROUP, _LOCAL = 1, 2
_SIOCSIFHWADDR = 0x8924  # linux/sockios.h
_ARPHRD_ETHER = 1
_NETWORK = "/sys/class/net"


def is_machine_id(text: str) -> bool:
    """Whether this can be in /etc/machine-id (machine-id(5)), or is empty."""
    return len(text) in (0, _MACHINE_ID_LENGTH) and _HEXADECIMAL.issuperset(text)


def find_interfaces() -> dict[str, bool]:
    """The names of all interfaces that have an Ethernet address, each with whether it is a device of the machine's."""
    names = [name for name in posix.listdir(_NETWORK) if _read(f"{_NETWORK}/{name}/type") == b"%d" % _ARPHRD_ETHER]
    return {name: exists(f"{_NETWORK}/{name}/device") for name in names}


def set_network_addresses(interfaces: dict[str, bool], address: bytes) -> None:
    """Gives the machine's network device this address, and every other interface (a kernel makes some) a random one.

    An empty address stands for a random one too. Raises ValueError for what is none, and OSError where the machine has
    no device for it, or the device does not take it.
    """
    if address and (len(address) != ADDRESS_LENGTH or address[0] & _GROUP):
        raise ValueError("a network address has six bytes, and is not of a group")
    if address and not any(interfaces.values()):
        raise OSError("the machine has no network device")
    if not interfaces:
        return
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        for name, is_device in interfaces.items():
            own = address if address and is_device else random_address()
            # struct ifreq: the name, then a struct sockaddr (netdevice(7)).
            request = name.encode().ljust(16, b"\0") + _ARPHRD_ETHER.to_bytes(2, sys.byteorder) + own.ljust(14, b"\0")
            fcntl.ioctl(sock, _SIOCSIFHWADDR, request)
    finally:
        sock.close()


def random_address() -> bytes:
    """An address of one station that no manufacturer has given (IEEE 802: the second bit of the first byte)."""
    first, *rest = posix.urandom(ADDRESS_LENGTH)
    return bytes([first & ~_GROUP | _LOCAL, *rest])


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read().strip()
