"""What the host's kernel says about KVM, where this user may read it (kmsg in the kernel's Documentation/ABI)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Final

from boxlite.printable import printable

_KMSG: Final = "/dev/kmsg"
_RECORD: Final = 8192
_MOST: Final = 5


def read_kvm_messages(*, seconds: float) -> list[str]:
    """The last of them, of so many seconds; none where the log cannot be read."""
    try:
        log = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return kvm_messages(_records(log), time.monotonic() - seconds)
    finally:
        os.close(log)


def kvm_messages(records: Iterator[bytes], since: float) -> list[str]:
    """The texts of the last records about KVM since that moment of the monotonic clock, as /dev/kmsg has
    them: "priority,number,microseconds,flags;text".
    """
    found = []
    for record in records:
        prefix, _, text = record.partition(b";")
        fields = prefix.split(b",")
        line = text.partition(b"\n")[0]
        if len(fields) < 3 or not fields[2].isdigit() or int(fields[2]) < since * 1e6 or b"kvm" not in line.lower():
            continue
        found.append(printable(line).strip())
    return found[-_MOST:]


def _records(log: int) -> Iterator[bytes]:
    while True:
        try:
            record = os.read(log, _RECORD)
        except BrokenPipeError:
            # Older ones were overwritten meanwhile.
            continue
        except OSError:
            return
        if not record:
            return
        yield record
