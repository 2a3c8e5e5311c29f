"""Hypothesis strategies for specifications of machines."""

from __future__ import annotations

from hypothesis import strategies as st

from vmm_ffi.spec import (
    Accelerator,
    DiskSpec,
    ExitNote,
    InstanceSpec,
    Keep,
    MemoryFile,
    NetworkProxy,
    PortSpec,
    ProcessIdentity,
    ProxyKind,
    ShareSpec,
    VmmKind,
    VmRecord,
)

tokens = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)

# Whatever a file may be called: every byte but NUL, as Python decodes it.
paths = st.binary(max_size=60).map(lambda raw: "/" + raw.replace(b"\0", b",").decode(errors="surrogateescape"))

disks = st.builds(DiskSpec, path=paths, serial=tokens, read_only=st.booleans())
ports = st.builds(PortSpec, number=st.integers(1, 2**31 - 1), path=paths, reconnect=st.booleans(), served=st.booleans())
proxies = st.builds(NetworkProxy, kind=st.sampled_from(ProxyKind), path=paths)

share_names = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
shares = st.builds(ShareSpec, name=share_names, path=paths, read_only=st.booleans())

mac_addresses = st.binary(min_size=6, max_size=6).filter(lambda raw: not raw[0] & 1).map(lambda raw: raw.hex(":"))

instances = st.builds(
    InstanceSpec,
    box_id=tokens,
    kind=st.sampled_from(VmmKind),
    kernel=paths,
    disks=st.lists(disks, min_size=1, max_size=5, unique_by=lambda disk: disk.serial).map(tuple),
    ports=st.lists(ports, max_size=4, unique_by=lambda port: port.number).map(tuple),
    shares=st.lists(shares, max_size=3, unique_by=lambda share: share.name).map(tuple),
    share_server=st.none() | paths,
    share_socket=st.none() | paths,
    kernel_args=st.lists(st.from_regex(r"[!-~]{1,20}", fullmatch=True), max_size=3).map(tuple),
    cpus=st.integers(1, 64),
    memory_mib=st.integers(64, 1 << 20),
    memory_file=st.none() | st.builds(MemoryFile, path=paths, shared=st.booleans()),
    incoming=st.booleans(),
    state_directory=st.none() | paths,
    accelerator=st.sampled_from(Accelerator),
    parallel_cpus=st.booleans(),
    tsc_khz=st.none() | st.integers(1, 10_000_000),
    nested=st.booleans(),
    network=st.booleans(),
    proxy=st.none() | proxies,
    mac_address=st.none() | mac_addresses,
    program=st.none() | paths,
    library=st.none() | paths,
    monitor=st.none() | paths,
    reconnect_in_ms=st.booleans(),
)

identities = st.builds(
    ProcessIdentity, pid=st.integers(1, 2**22), start_time=st.integers(1, 2**63), boot_id=st.uuids().map(str)
)
keeps = st.builds(Keep, directory=paths, sockets=paths)

records = st.builds(
    VmRecord, process=identities, keeper=st.none() | identities, sockets=paths, kind=st.sampled_from(VmmKind)
)
statuses = st.integers(0, 255).map(lambda code: code << 8) | st.integers(1, 64)
notes = st.builds(ExitNote, process=identities, status=statuses, cause=st.text(max_size=20))
