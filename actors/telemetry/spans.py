"""OpenTelemetry: a span for each message that is handled, below its sender's, and one for each life."""

from __future__ import annotations

from typing import Any, final

import trio
from opentelemetry import context, trace
from opentelemetry.util.types import AttributeValue

from actors.instrument import Done
from actors.messages import Message
from actors.ref import ActorRef


@final
class Spans:
    """An `Instrument`. The spans of messages are named `<actor> <class of the message>`, those of lives `<actor> life`.

    The sender's context is that of the handler, baggage included, so a trace runs through asks and tells from actor to
    actor, and through the background tasks that a handler starts. An error that `handle` raises is recorded on the
    span, a declared rejection too; cancellation is no error.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        """Without a provider, the global one of OpenTelemetry is used."""
        self._tracer = trace.get_tracer("actors", tracer_provider=tracer_provider)

    def on_send(self, ref: ActorRef, message: Message[Any], *, asks: bool) -> object:
        """See `Instrument`."""
        return context.get_current()

    def on_handle(self, ref: ActorRef, message: Message[Any], sent: object, *, asks: bool) -> Done:
        """See `Instrument`."""
        kind = trace.SpanKind.SERVER if asks else trace.SpanKind.CONSUMER
        name = type(message).__name__
        parent = sent if isinstance(sent, context.Context) else context.get_current()
        return self._span(f"{ref.name} {name}", kind, parent, {"actor.name": ref.name, "actor.message": name})

    def on_start(self, ref: ActorRef) -> Done:
        """See `Instrument`."""
        return self._span(f"{ref.name} life", trace.SpanKind.INTERNAL, context.get_current(), {"actor.name": ref.name})

    def _span(
        self, name: str, kind: trace.SpanKind, parent: context.Context, attributes: dict[str, AttributeValue]
    ) -> Done:
        span = self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        token = context.attach(trace.set_span_in_context(span, parent))

        def done(error: BaseException | None) -> None:
            context.detach(token)
            if error is not None and not isinstance(error, trio.Cancelled):
                span.record_exception(error)
                span.set_status(trace.StatusCode.ERROR, repr(error))
            span.end()

        return done
