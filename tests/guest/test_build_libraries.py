"""What the host's loader says of its files."""

import sys
from pathlib import Path

from guest.build.libraries import Needs, needs, parse, unwinder

LDD = """\
/usr/bin/prog:
\tlinux-vdso.so.1 (0x00007ffc)
\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f01)
\tlibgone.so.3 => not found
\tlibodd name.so => /opt/odd (really) place/libodd name.so (0x00007f02)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)
/usr/bin/static:
\tnot a dynamic executable
/usr/bin/static-pie:
\tstatically linked
"""


def test_the_report_of_ldd_is_understood() -> None:
    """Libraries by the name that is looked for, the loader apart, the kernel's own library not at all."""
    assert parse(LDD) == {
        Path("/usr/bin/prog"): Needs(
            libraries={
                "libz.so.1": Path("/lib/x86_64-linux-gnu/libz.so.1"),
                "libodd name.so": Path("/opt/odd (really) place/libodd name.so"),
            },
            loader=Path("/lib64/ld-linux-x86-64.so.2"),
            missing=("libgone.so.3",),
        ),
        Path("/usr/bin/static"): Needs({}, None, ()),
        Path("/usr/bin/static-pie"): Needs({}, None, ()),
    }


def test_several_files_and_one_alone_give_the_same() -> None:
    """`ldd` leaves the file's name out when there is one only."""
    python, shell = Path(sys.executable).resolve(), Path("/bin/sh").resolve()
    both = needs([python, shell])
    assert both == needs([python]) | needs([shell])
    assert "libc.so.6" in both[python].libraries
    assert all(path.is_file() for path in both[python].libraries.values())


def test_nothing_needs_nothing() -> None:
    assert needs([]) == {}


def test_the_unwinder_is_a_file_of_this_host() -> None:
    assert unwinder().is_file()
    assert unwinder().name == "libgcc_s.so.1"
