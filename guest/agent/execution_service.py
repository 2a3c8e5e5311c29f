"""The portal's Execution service: commands in the container."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from guest.agent.command import Refused
from guest.agent.container.client import ContainerError
from guest.agent.container_service import ContainerService
from guest.agent.execution import Execution
from guest.agent.executions import Executions, UnknownExecution
from guest.agent.follower import Follower, Superseded
from guest.agent.input import InputGap
from proto.boxlite.v1 import (
    AttachRequest,
    Credit,
    ExecEvent,
    ExecRequest,
    ExecutionBase,
    Exited,
    InputChunk,
    InputReply,
    KillReply,
    KillRequest,
    ListReply,
    ListRequest,
    ResizeTtyReply,
    ResizeTtyRequest,
    StartFailed,
    WaitRequest,
)

_MAX_SIGNAL = 64
_MAX_TERMINAL = 65535


class Connection(Protocol):
    """What this service needs of the connection that a call comes by."""

    def is_closing(self) -> bool: ...  # noqa: D102


class ExecutionService(ExecutionBase):
    """See guest.proto for the meaning of each call. `connection` gives the one that is being served."""

    def __init__(
        self, containers: ContainerService, executions: Executions, connection: Callable[[], Connection]
    ) -> None:
        self._containers = containers
        self._executions = executions
        self._connection = connection

    async def exec(self, messages: AsyncIterator[ExecRequest]) -> AsyncIterator[ExecEvent]:
        """The command runs on when the stream ends early."""
        connection = self._connection()
        first = await anext(messages, None)
        if first is None or first.start is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the first request of Exec is the start")
        try:
            execution = await self._executions.start(self._containers.container, first.start)
        except Refused as refused:
            yield ExecEvent(failed=StartFailed(reason=refused.reason, message=refused.message))
            return
        except ContainerError as error:
            raise GRPCError(Status.UNAVAILABLE, str(error)) from None
        follower = Follower(execution, first.start.credit or Credit())
        async with aclosing(_follow(follower, messages, connection)) as events:
            async for event in events:
                yield event

    async def attach(self, messages: AsyncIterator[AttachRequest]) -> AsyncIterator[ExecEvent]:
        """Begins with Started, as Exec does."""
        connection = self._connection()
        first = await anext(messages, None)
        if first is None or first.start is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the first request of Attach is the start")
        start = first.start
        execution = await self._find(start.execution_id)
        try:
            follower = Follower(
                execution,
                start.credit or Credit(),
                stdout_offset=start.stdout_offset,
                stderr_offset=start.stderr_offset,
            )
        except ValueError as error:
            raise GRPCError(Status.OUT_OF_RANGE, str(error)) from None
        async with aclosing(_follow(follower, messages, connection)) as events:
            async for event in events:
                yield event

    async def send_input(self, messages: AsyncIterator[InputChunk]) -> InputReply:
        """Answers at once when nobody reads."""
        execution: Execution | None = None
        name = ""
        async for chunk in messages:
            if execution is None:
                name = chunk.execution_id
                execution = await self._find(name)
            if zlib.crc32(chunk.data) != chunk.crc32:
                raise GRPCError(Status.DATA_LOSS, "a chunk of the standard input is not what was sent")
            if chunk.execution_id != name:
                raise GRPCError(Status.INVALID_ARGUMENT, "the chunks of one call are for one execution")
            if execution.input is None:
                raise GRPCError(Status.FAILED_PRECONDITION, f"execution {name} was started without an input")
            try:
                await execution.input.write(chunk.offset, chunk.data, chunk.eof)
            except InputGap as error:
                raise GRPCError(Status.OUT_OF_RANGE, str(error)) from None
            if execution.input.broken:
                break
        if execution is None or execution.input is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "no chunk came")
        return InputReply(accepted=execution.input.accepted, broken_pipe=execution.input.broken)

    async def wait(self, message: WaitRequest) -> Exited:
        """Answers at once for what has ended."""
        execution = await self._find(message.execution_id)
        await execution.ended.wait()
        assert execution.exited is not None
        return execution.exited

    async def kill(self, message: KillRequest) -> KillReply:
        """Answers once the signal is sent."""
        if not 1 <= message.signal <= _MAX_SIGNAL:
            raise GRPCError(Status.INVALID_ARGUMENT, f"a signal is 1 to {_MAX_SIGNAL}, not {message.signal}")
        execution = await self._find(message.execution_id)
        try:
            return KillReply(delivered=await execution.kill(message.signal))
        except ContainerError:
            return KillReply(delivered=False)

    async def list(self, message: ListRequest) -> ListReply:
        """Those that are being started are not in it yet."""
        return ListReply(executions=self._executions.list())

    async def resize_tty(self, message: ResizeTtyRequest) -> ResizeTtyReply:
        """The foreground processes get SIGWINCH."""
        size = message.size
        if size is None or max(size.rows, size.columns) > _MAX_TERMINAL:
            raise GRPCError(Status.INVALID_ARGUMENT, f"a terminal has 0 to {_MAX_TERMINAL} rows and columns")
        execution = await self._find(message.execution_id)
        try:
            execution.resize(size.rows, size.columns)
        except ValueError as error:
            raise GRPCError(Status.FAILED_PRECONDITION, str(error)) from None
        return ResizeTtyReply()

    async def _call_rpc_handler_server_stream(
        self, handler: Callable[[Any], AsyncGenerator[ExecEvent, None]], stream: Stream[Any, ExecEvent], request: Any
    ) -> None:
        # The base class leaves a handler's generator to the garbage collector when the call is cancelled while it
        # sends. Then nobody would release the execution, and its command would wait for a reader for ever.
        async with aclosing(handler(request)) as events:
            async for event in events:
                await stream.send_message(event)

    async def _find(self, name: str) -> Execution:
        try:
            return await self._executions.find(name)
        except UnknownExecution as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from None


async def _follow(
    follower: Follower, requests: AsyncIterator[ExecRequest] | AsyncIterator[AttachRequest], connection: Connection
) -> AsyncGenerator[ExecEvent, None]:
    credits_task = asyncio.get_running_loop().create_task(_take_credits(follower, requests))
    try:
        async for event in follower.events():
            yield event
    except Superseded as error:
        raise GRPCError(Status.ABORTED, str(error)) from None
    finally:
        credits_task.cancel()
        await asyncio.gather(credits_task, return_exceptions=True)
        # A host that resets the stream has no more use for the output; one whose connection broke will want the rest.
        if connection.is_closing():
            follower.hold()
        else:
            follower.release()


async def _take_credits(
    follower: Follower, requests: AsyncIterator[ExecRequest] | AsyncIterator[AttachRequest]
) -> None:
    try:
        async for request in requests:
            if request.credit is None:
                raise GRPCError(Status.INVALID_ARGUMENT, "the requests after the first one are credits")
            follower.allow(request.credit)
    except Exception as error:
        follower.interrupt(error)
