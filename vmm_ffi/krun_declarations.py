"""What libkrun declares, as its header has it; `python -m vmm_ffi.krun_declarations` writes what cffi makes of it.

Reading declarations takes cffi longer than anything else that a machine's process does before it is the machine, so it
was done before (cffi's ABI mode, out of line).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cffi

DECLARATIONS: Final = """
int32_t krun_init_log(int target_fd, uint32_t level, uint32_t style, uint32_t options);
int32_t krun_create_ctx(void);
int32_t krun_set_vm_config(uint32_t ctx_id, uint8_t num_vcpus, uint32_t ram_mib);
int32_t krun_set_kernel(uint32_t ctx_id, const char *kernel_path, uint32_t kernel_format, const char *initramfs,
                        const char *cmdline);
int32_t krun_disable_implicit_vsock(uint32_t ctx_id);
int32_t krun_add_vsock(uint32_t ctx_id, uint32_t tsi_features);
int32_t krun_add_vsock_port2(uint32_t ctx_id, uint32_t port, const char *c_filepath, bool listen);
int32_t krun_add_net_unixstream(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                                uint32_t flags);
int32_t krun_add_net_unixgram(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                              uint32_t flags);
int32_t krun_add_disk(uint32_t ctx_id, const char *block_id, const char *disk_path, bool read_only);
int32_t krun_disable_implicit_console(uint32_t ctx_id);
int32_t krun_add_virtio_console_default(uint32_t ctx_id, int input_fd, int output_fd, int err_fd);
int32_t krun_has_feature(uint64_t feature);
int32_t krun_get_max_vcpus(void);
int32_t krun_start_enter(uint32_t ctx_id);
"""
"""Of what is used here, as libkrun.h has it. Which of them a library has depends on its version."""

SNAPSHOT_DECLARATIONS: Final = """
int32_t krun_set_control_socket(uint32_t ctx_id, const char *c_path);
int32_t krun_set_snapshot(uint32_t ctx_id, const char *c_dir);
int32_t krun_set_snapshot_memory_fd(uint32_t ctx_id, int fd);
"""
"""By which machines are saved and restored. Only the library of the smolmachines wheel has them, and no header that is
public: they are declared as that project's own program calls them (github.com/smol-machines/smolvm)."""

MODULE: Final = "vmm_ffi.krun_abi"


def generate(path: Path) -> None:
    """Writes the module that has the declarations, read."""
    ffi = cffi.FFI()
    ffi.set_source(MODULE, None)
    ffi.cdef(DECLARATIONS + SNAPSHOT_DECLARATIONS)
    ffi.emit_python_code(str(path))


if __name__ == "__main__":
    generate(Path(__file__).with_name("krun_abi.py"))
