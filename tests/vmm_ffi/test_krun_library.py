"""The calls of libkrun: declared as its header has them, and never failing in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boxlite.vmm.facts import _krun_libraries
from vmm_ffi import krun_abi
from vmm_ffi.krun_declarations import DECLARATIONS, SNAPSHOT_DECLARATIONS, generate
from vmm_ffi.krun_library import Krun, KrunError
from vmm_ffi.krun_package import version_of
from vmm_ffi.spec import SNAPSHOT_CALLS

SIGNATURES = {
    "krun_init_log": "int uint32 uint32 uint32",
    "krun_create_ctx": "",
    "krun_set_vm_config": "uint32 uint8 uint32",
    "krun_set_kernel": "uint32 text uint32 text text",
    "krun_disable_implicit_vsock": "uint32",
    "krun_add_vsock": "uint32 uint32",
    "krun_add_vsock_port2": "uint32 uint32 text bool",
    "krun_add_net_unixstream": "uint32 text int bytes uint32 uint32",
    "krun_add_net_unixgram": "uint32 text int bytes uint32 uint32",
    "krun_add_disk": "uint32 text text bool",
    "krun_disable_implicit_console": "uint32",
    "krun_add_virtio_console_default": "uint32 int int int",
    "krun_has_feature": "uint64",
    "krun_get_max_vcpus": "",
    "krun_start_enter": "uint32",
}
"""The arguments of each call, as libkrun.h of version 1.18 has them; each returns an int32_t."""

_NAMES = {"uint8_t": "uint8", "uint32_t": "uint32", "uint64_t": "uint64", "int": "int", "bool": "bool"}
_PROTOTYPE = re.compile(r"\b(int32_t|int)\s+(krun_\w+)\s*\(([^)]*)\)\s*;")
_HEADERS = (Path("/usr/include/libkrun.h"), Path("/usr/local/include/libkrun.h"))


def prototypes(text: str) -> dict[str, str]:
    """The arguments of each function of a header, by kinds."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    return {match[2]: " ".join(map(kind, filter(None, split(match[3])))) for match in _PROTOTYPE.finditer(text)}


def split(arguments: str) -> list[str]:
    parts = [part.strip() for part in arguments.split(",")]
    return [] if parts == ["void"] else parts


def kind(argument: str) -> str:
    words = argument.replace("*", " * ").split()
    if "*" in words:
        return "text" if "char" in words else "bytes"
    return next(_NAMES[word] for word in words if word in _NAMES)


def test_the_declarations_are_those_of_the_header() -> None:
    assert prototypes(DECLARATIONS) == SIGNATURES
    for header in filter(Path.exists, _HEADERS):
        installed = prototypes(header.read_text())
        assert {name: installed[name] for name in SIGNATURES if name in installed} == {
            name: arguments for name, arguments in SIGNATURES.items() if name in installed
        }


def test_the_calls_for_snapshots_are_those_of_the_wheel() -> None:
    """There is no header that has them."""
    assert prototypes(SNAPSHOT_DECLARATIONS) == {
        "krun_set_control_socket": "uint32 text",
        "krun_set_snapshot": "uint32 text",
        "krun_set_snapshot_memory_fd": "uint32 int",
    }
    assert set(prototypes(SNAPSHOT_DECLARATIONS)) == set(SNAPSHOT_CALLS)
    assert not set(SNAPSHOT_CALLS) & set(SIGNATURES)


def test_a_header_is_read_as_c_has_it() -> None:
    text = """
    /* int32_t krun_no(void); */
    int32_t krun_a(uint32_t ctx_id,
                   const char *const c_path, uint8_t *const c_mac); // int32_t krun_neither(void);
    int krun_b();
    """
    assert prototypes(text) == {"krun_a": "uint32 text bytes", "krun_b": ""}


def test_what_is_loaded_was_made_of_the_declarations(tmp_path: Path) -> None:
    """Else: python -m vmm_ffi.krun_declarations."""
    generate(tmp_path / "made.py")
    assert (tmp_path / "made.py").read_text() == Path(krun_abi.__file__).read_text()


@pytest.mark.parametrize("path", ["/nowhere/libkrun.so", "/etc/passwd", "/nowhere/\udcff.so"])
def test_what_is_no_library_is_a_clear_error(path: str) -> None:
    with pytest.raises(KrunError, match=r"libkrun cannot be loaded: .*: install it"):
        Krun(path, "of unknown version", print)


def test_a_library_without_the_call_is_named() -> None:
    krun = Krun("libc.so.6", "of unknown version", print)
    assert not krun.has("krun_add_vsock")
    with pytest.raises(KrunError) as caught:
        krun.call("krun_add_vsock_port2", 0, 2695, "/run/\udcff", True)
    assert str(caught.value) == (
        "krun_add_vsock_port2(0, 2695, '/run/\\udcff', true): this libkrun has no such call (libc.so.6, of unknown "
        "version): use version 1.17 or newer, or the engine qemu"
    )


def test_an_argument_of_another_kind_is_refused_before_the_call() -> None:
    """By cffi, which knows the declarations."""
    krun = Krun("libc.so.6", "of unknown version", print)
    with pytest.raises(KrunError):
        krun.call("krun_create_ctx", "one too many")


def test_a_version_is_told_by_the_file_s_name_or_its_package(tmp_path: Path) -> None:
    real = tmp_path / "lib" / "libkrun.so.1.17.3"
    real.parent.mkdir()
    real.touch()
    (tmp_path / "libkrun.so").symlink_to(real)
    assert version_of(str(tmp_path / "libkrun.so")) == "version 1.17.3"
    assert version_of(str(tmp_path / "lib" / "libkrun.so")) == "of unknown version"
    (tmp_path / "smolmachines-9.8.dist-info").mkdir()
    assert version_of(str(tmp_path / "lib" / "libkrun.so")) == "smolmachines 9.8"
    assert version_of("/x") == "of unknown version"
    assert version_of(str(next(_krun_libraries()))) != "of unknown version"
