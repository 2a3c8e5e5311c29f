"""Spans, as the OpenTelemetry SDK exports them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from actors import Actor, ActorRef, ChildSpec, Message, SupervisorSpec, open_supervisor
from actors.telemetry.spans import Spans
from tests.actors.toys import Add, Boom, Counter, GetCount, Hold, Raise, Refused, asking, counter, settle


class Recorder:
    """Keeps the finished spans."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")
        self.spans = Spans(self.provider)

    def finished(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.finished() if span.name == name]
        return found


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def id_of(span: ReadableSpan) -> int:
    return span.get_span_context().span_id  # type: ignore[union-attr]


async def test_a_trace_runs_from_the_sender_through_the_actors_and_their_background_tasks() -> None:
    class Relay(Actor):
        async def handle(self, message: Message[Any]) -> Any:
            carried.append(baggage.get_baggage("user"))
            self.start_soon(target.tell, Add())
            return await target.ask(GetCount())

    carried: list[object] = []
    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor:
        target = await supervisor.start_child(counter("target"))
        relay = await supervisor.start_child(ChildSpec("relay", Relay))
        with recorder.tracer.start_as_current_span("request") as request:
            token = context.attach(baggage.set_baggage("user", "ada"))
            await relay.ask(GetCount())
            context.detach(token)
        await settle()
    assert carried == ["ada"]
    assert parent_of(recorder["relay GetCount"]) == request.get_span_context().span_id
    assert parent_of(recorder["target GetCount"]) == id_of(recorder["relay GetCount"])
    assert parent_of(recorder["target Add"]) == id_of(recorder["relay GetCount"])
    assert recorder["target GetCount"].kind is trace.SpanKind.SERVER
    assert recorder["target Add"].kind is trace.SpanKind.CONSUMER
    assert recorder["target Add"].attributes == {"actor.name": "target", "actor.message": "Add"}


async def test_what_is_sent_outside_of_a_trace_begins_one() -> None:
    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor:
        ref = await supervisor.start_child(counter())
        await ref.ask(Add())
        await ref.ask(GetCount())
    assert parent_of(recorder["counter Add"]) is None
    assert parent_of(recorder["counter GetCount"]) is None


@pytest.mark.parametrize(("error", "lives"), [(Refused("no"), 1), (Boom("bang"), 2)])
async def test_errors_are_recorded_on_the_message_and_crashes_on_the_life(error: Exception, lives: int) -> None:
    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor:
        ref = await supervisor.start_child(counter())
        with pytest.raises(Exception, match=r"no|bang"):
            await ref.ask(Raise(error))
        await settle()
    span = recorder["counter Raise"]
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, repr(error))
    assert [event.name for event in span.events] == ["exception"]
    ends = [span.status.status_code for span in recorder.finished() if span.name == "counter life"]
    assert ends == [trace.StatusCode.ERROR, trace.StatusCode.UNSET][-lives:]


async def test_cancellation_is_no_error() -> None:
    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(shutdown=0))
        await asking(nursery, ref, Hold())
        await supervisor.stop_child(ref)
    assert recorder["counter Hold"].status.status_code is trace.StatusCode.UNSET


async def test_what_started_does_belongs_to_the_life() -> None:
    class Starting(Counter):
        async def started(self) -> None:
            recorder.tracer.start_span("warm up").end()

    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor:
        await supervisor.start_child(ChildSpec("a", Starting))
        recorder.tracer.start_span("outside").end()
    assert parent_of(recorder["warm up"]) == id_of(recorder["a life"])
    assert parent_of(recorder["outside"]) is None


async def test_supervisors_below_are_observed_too() -> None:
    recorder = Recorder()
    async with open_supervisor(instrument=recorder.spans) as supervisor:
        crew = await supervisor.start_supervisor(SupervisorSpec("crew", children=[counter("worker")]))
        ref: ActorRef = crew.find("worker")
        await ref.ask(Add())
    assert recorder["worker Add"].attributes == {"actor.name": "worker", "actor.message": "Add"}
