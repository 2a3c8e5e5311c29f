"""The entry point of the command `boxlite`."""

from __future__ import annotations

import sys
from typing import NoReturn

from boxlite.cli.loading import ended_by_interrupts


def main() -> NoReturn:
    """Ends the process with the command's status, or with 125 where boxlite itself failed."""
    with ended_by_interrupts():
        from boxlite.cli.commands import call

    sys.exit(call())


if __name__ == "__main__":
    main()
