"""Stored boxes for tests: one with everything set, and a strategy for any."""

from __future__ import annotations

from hypothesis import strategies as st

from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.policy import HealthCheck, RestartKind, RestartPolicy
from boxlite.boxes.volumes import Volume
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.reference import parse_reference
from boxlite.store.records import StoredBox
from boxlite.vmm.engine import ProcessIdentity, VmRecord

VM = VmRecord(ProcessIdentity(7, 8, "boot"), ProcessIdentity(5, 6, "boot"), "/run/boxlite-x/0123")

FULL = StoredBox(
    id="0123456789abcdef",
    options=BoxOptions(
        image=parse_reference("oci:/images/alpine:3.19"),
        name="full",
        cpus=2,
        memory_mib=512,
        disk_mib=64,
        env={"NAME": "v\udc80lue", "EMPTY": ""},
        user="user:group",
        boot_timeout=2.5,
        restart=RestartPolicy(RestartKind.ON_FAILURE, 3),
        health=HealthCheck(("true", "-x"), 1.5, 2.5, 4, 5.5),
        detached=True,
        volumes=(Volume("/srv/d\udc80ta", "/data"), Volume("/srv/file", "/etc/file", read_only=True)),
    ),
    created_at=1000.25,
    state=BoxState.RUNNING,
    cause="because of \udcff",
    changed_at=2000.5,
    vm=VM,
    restarts=2,
    stopped_by_hand=True,
    started_at=1999.5,
    config=ImageConfig(("sh",), ("-c", "x"), ("A=b",), "me", "/w", "9", {"l": "m"}),
    auto_remove=True,
    image=Digest("sha256", "0123456789abcdef" * 4),
)


def make_box(
    number: int,
    name: str | None = None,
    *,
    state: BoxState = BoxState.CONFIGURED,
    vm: VmRecord | None = None,
    restart: str = "no",
    stopped_by_hand: bool = False,
    detached: bool = False,
    auto_remove: bool = False,
    image: Digest | None = None,
) -> StoredBox:
    """The box of that number, plain but for what is said of it."""
    reference = parse_reference("builtin/python")
    options = BoxOptions(image=reference, name=name or f"box-{number}", restart=restart, detached=detached)
    return StoredBox(
        f"{number:016x}",
        options,
        created_at=float(number),
        state=state,
        vm=vm,
        stopped_by_hand=stopped_by_hand,
        auto_remove=auto_remove,
        image=image,
    )


_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
_times = st.floats(0, 1e12)
_names = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,10}", fullmatch=True)
_seconds = st.floats(0.001, 1e6)

_health = st.builds(
    HealthCheck,
    st.lists(_texts, min_size=1, max_size=3),
    _seconds,
    _seconds,
    st.integers(1, 10),
    st.floats(0, 1e6),
)
_policies = st.one_of(
    st.builds(RestartPolicy, st.sampled_from(RestartKind)),
    st.builds(RestartPolicy, st.just(RestartKind.ON_FAILURE), st.integers(1, 99)),
)
_file_names = _texts.filter(lambda name: "/" not in name and name not in ("", ".", "..", "proc", "sys", "dev"))
_file_paths = st.lists(_file_names, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
volumes = st.builds(Volume, _file_paths, _file_paths, read_only=st.booleans())
options = st.builds(
    BoxOptions,
    image=st.sampled_from(
        ["builtin/python", "oci:/some where/é", "oci:/a:tag:1", "alpine", "localhost:5000/a/b:1"]
    ).map(parse_reference),
    name=_names,
    cpus=st.integers(1, 64),
    memory_mib=st.integers(128, 4096),
    disk_mib=st.integers(16, 4096),
    env=st.dictionaries(_texts.filter(lambda name: name and "=" not in name), _texts, max_size=3),
    user=st.none() | st.just("someone"),
    boot_timeout=st.none() | _seconds,
    restart=_policies,
    health=st.none() | _health,
    detached=st.booleans(),
    volumes=st.lists(volumes, max_size=3, unique_by=lambda volume: volume.target),
)
_configs = st.builds(
    ImageConfig,
    entrypoint=st.lists(_texts, max_size=2).map(tuple),
    env=st.lists(_texts, max_size=2).map(tuple),
    working_dir=_texts,
    labels=st.dictionaries(_texts, _texts, max_size=2),
)
stored_boxes = st.builds(
    StoredBox,
    id=st.integers(0, 2**64 - 1).map("{:016x}".format),
    options=options,
    created_at=_times,
    state=st.sampled_from(BoxState),
    cause=_texts,
    changed_at=_times,
    vm=st.none() | st.just(VM) | st.just(VmRecord(VM.process, None, VM.sockets)),
    restarts=st.integers(0, 1000),
    stopped_by_hand=st.booleans(),
    started_at=st.none() | _times,
    config=st.none() | _configs,
    auto_remove=st.booleans(),
    image=st.none() | st.just(FULL.image),
)
