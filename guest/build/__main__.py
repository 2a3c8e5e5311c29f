"""The command line: `python -m guest.build root OUT.tar` and `python -m guest.build image OUT_DIR`.

Prints nothing but the reason of a failure. Ends with 0, or with 1 where something is missing on this host.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from guest.build.archive import write_tar
from guest.build.errors import BuildError
from guest.build.image import write_image
from guest.build.inputs import Inputs
from guest.build.root import root_tree


def main() -> int:
    """Build what the arguments say."""
    parser = argparse.ArgumentParser(prog="guest.build", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "part", choices=["root", "image"], help="the guest's root as a tar, or builtin/python as a layout"
    )
    parser.add_argument("output", type=Path, help="what to write: a file for root, a new directory for image")
    parser.add_argument("--inputs", type=Path, help="where to write, as JSON, what was read of this host")
    arguments = parser.parse_args()
    inputs = Inputs()
    try:
        if arguments.part == "root":
            write_root(inputs, arguments.output)
        else:
            write_image(inputs, arguments.output)
        if arguments.inputs:
            arguments.inputs.write_text(json.dumps(inputs.record()))
    except (BuildError, OSError) as error:
        print(f"cannot build the guest's {arguments.part}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def write_root(inputs: Inputs, output: Path) -> None:
    """Write the guest's root file system as a plain tar."""
    tree = root_tree(inputs)
    with output.open("wb") as stream:
        write_tar(tree, stream)


if __name__ == "__main__":
    sys.exit(main())
