"""Hypothesis strategies for what boxes are made of, what runs in them, and what befalls them."""

from __future__ import annotations

from boxlite.testing.extra import missing

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise missing(__name__, error) from error

import attrs

from boxlite.boxes.outcome import Exited, Outcome, Signalled
from boxlite.boxes.policy import HealthCheck, RestartKind, RestartPolicy
from boxlite.runtime.runtime import CreateOptions
from boxlite.testing.faults import POSSIBLE, Fault, FaultKind, Stage
from boxlite.testing.programs import numbers

_WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=20)


@attrs.frozen
class SampleCommand:
    """A command with all that must come of it, in a simulated box and in a real one that has BusyBox."""

    argv: tuple[str, ...]
    outcome: Outcome
    input: bytes | None = None
    stdout: bytes = b""
    stderr: bytes = b""


def box_names() -> st.SearchStrategy[str]:
    """Few enough to meet again."""
    return st.sampled_from(("amber", "birch", "cedar"))


def restart_policies() -> st.SearchStrategy[RestartPolicy]:
    """Every kind, with and without a bound."""
    bounded = st.builds(RestartPolicy, st.just(RestartKind.ON_FAILURE), st.integers(1, 5))
    return st.builds(RestartPolicy, st.sampled_from(RestartKind)) | bounded


def health_checks() -> st.SearchStrategy[HealthCheck]:
    """Checks that always succeed, always fail, or take too long."""
    return st.builds(
        HealthCheck,
        st.sampled_from((("true",), ("false",), ("sleep", "100"))),
        interval=st.floats(0.1, 60),
        timeout=st.floats(0.1, 60),
        retries=st.integers(1, 5),
        start_period=st.floats(0, 60),
    )


@st.composite
def box_options(draw: st.DrawFn) -> CreateOptions:
    """Options for `Runtime.create`, valid ones; the name is one of `box_names`."""
    options = CreateOptions(name=draw(box_names()))
    if draw(st.booleans()):
        options["memory_mib"] = draw(st.sampled_from((128, 256, 1024)))
    if draw(st.booleans()):
        options["restart"] = draw(restart_policies())
    if draw(st.booleans()):
        options["detached"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        options["health"] = draw(health_checks())
    if draw(st.booleans()):
        options["boot_timeout"] = draw(st.none() | st.floats(1, 100))
    return options


def commands() -> st.SearchStrategy[SampleCommand]:
    """Short commands, among them such as fail, as are ended by a signal, as read and as write a lot."""
    return st.one_of(
        st.just(SampleCommand(("true",), Exited(0))),
        st.just(SampleCommand(("false",), Exited(1))),
        st.builds(_echo, st.lists(_WORD.filter(lambda word: not word.startswith("-")), max_size=3)),
        st.builds(_exit, st.integers(0, 255), _WORD.filter(lambda word: not word.startswith("-"))),
        st.builds(_kill, st.sampled_from((6, 9, 15))),
        st.builds(_copy, st.binary(max_size=1000) | st.integers(1, 300_000).map(bytes)),
        st.builds(_count, st.integers(1, 100_000)),
        st.builds(_sleep, st.floats(0, 100).map(lambda seconds: round(seconds, 3))),
    )


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """One fault of any kind that is possible at its stage."""
    stage = draw(st.sampled_from(Stage))
    kind: FaultKind = draw(st.sampled_from(sorted(POSSIBLE[stage])))
    return Fault(stage, kind, nth=draw(st.integers(1, 10)), seconds=draw(st.sampled_from((0.01, 0.5, 3.0, 30.0))))


def fault_schedules(max_size: int = 5) -> st.SearchStrategy[tuple[Fault, ...]]:
    """What goes wrong in one example; often nothing."""
    return st.lists(faults(), max_size=max_size).map(tuple)


def _echo(words: list[str]) -> SampleCommand:
    return SampleCommand(("echo", *words), Exited(0), stdout=" ".join(words).encode() + b"\n")


def _exit(code: int, word: str) -> SampleCommand:
    return SampleCommand(("sh", "-c", f"echo {word} >&2; exit {code}"), Exited(code), stderr=word.encode() + b"\n")


def _kill(signal: int) -> SampleCommand:
    return SampleCommand(("sh", "-c", f"kill -{signal} $$"), Signalled(signal))


def _copy(data: bytes) -> SampleCommand:
    return SampleCommand(("cat",), Exited(0), input=data, stdout=data)


def _count(last: int) -> SampleCommand:
    return SampleCommand(("seq", "1", str(last)), Exited(0), stdout=numbers(1, last))


def _sleep(seconds: float) -> SampleCommand:
    return SampleCommand(("sleep", str(seconds)), Exited(0))
