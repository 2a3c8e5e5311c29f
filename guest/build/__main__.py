"""The command line: `python -m guest.build root OUT.tar` and `python -m guest.build image OUT_DIR`.

Prints nothing but the reason of a failure. Ends with 0, or with 1 where something is missing on this host.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from guest.build.errors import BuildError
from guest.build.image import write_image
from guest.build.inputs import Inputs
from guest.build.root import write_root

BUILDERS = {"root": write_root, "image": write_image}


def main() -> int:
    """Build what the arguments say."""
    parser = argparse.ArgumentParser(
        prog="guest.build", description="Build the guest's parts out of this host's files."
    )
    parser.add_argument("part", choices=BUILDERS, help="the guest's root as a tar, or builtin/python as an OCI layout")
    parser.add_argument("output", type=Path, help="what to write: a file for root, a new directory for image")
    parser.add_argument("--record", type=Path, help="where to write, as JSON, the result's key and what it was made of")
    arguments = parser.parse_args()
    inputs = Inputs()
    try:
        key = BUILDERS[arguments.part](inputs, arguments.output)
        if arguments.record:
            arguments.record.write_text(json.dumps({"key": key} | inputs.record()))
    except (BuildError, OSError) as error:
        print(f"guest.build {arguments.part}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
