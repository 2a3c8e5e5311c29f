"""The portal's Execution service: commands in the container."""

from __future__ import annotations

import zlib

from guest.agent.command import Refused
from guest.agent.container.client import ContainerError
from guest.agent.executions import UnknownExecution
from guest.agent.follower import Follower, Superseded
from guest.agent.input import InputGap
from guest.agent.rpc.calls import CallError, Status
from proto.lean.messages import (
    Credit,
    ExecEvent,
    InputReply,
    KillReply,
    ListReply,
    ResizeTtyReply,
    StartFailed,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guest.agent.container_service import ContainerService
    from guest.agent.execution import Execution
    from guest.agent.executions import Executions
    from guest.agent.rpc.server import Call
    from proto.lean.messages import (
        AttachRequest,
        ExecRequest,
        Exited,
        InputChunk,
        KillRequest,
        ListRequest,
        ResizeTtyRequest,
        WaitRequest,
    )

    EventsCall = Call[ExecRequest, ExecEvent] | Call[AttachRequest, ExecEvent]

_MAX_SIGNAL = 64
_MAX_TERMINAL = 65535


class ExecutionService:
    """See guest.proto for the meaning of each call."""

    def __init__(self, containers: ContainerService, executions: Executions) -> None:
        self._containers = containers
        self._executions = executions

    async def exec(self, call: Call[ExecRequest, ExecEvent]) -> None:
        """The command runs on when the call ends early."""
        first = await call.receive()
        if first is None or first.start is None:
            raise CallError(Status.INVALID_ARGUMENT, "the first request of Exec is the start")
        try:
            execution = await self._executions.start(self._containers.container, first.start)
        except Refused as refused:
            await call.send(ExecEvent(failed=StartFailed(reason=refused.reason, message=refused.message)))
            return
        except ContainerError as error:
            raise CallError(Status.UNAVAILABLE, str(error)) from None
        await _follow(Follower(execution, first.start.credit or Credit()), call)

    async def attach(self, call: Call[AttachRequest, ExecEvent]) -> None:
        """Begins with Started, as Exec does."""
        first = await call.receive()
        if first is None or first.start is None:
            raise CallError(Status.INVALID_ARGUMENT, "the first request of Attach is the start")
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
            raise CallError(Status.OUT_OF_RANGE, str(error)) from None
        await _follow(follower, call)

    async def send_input(self, call: Call[InputChunk, InputReply]) -> None:
        """Answers at once when nobody reads."""
        execution: Execution | None = None
        name = ""
        while (chunk := await call.receive()) is not None:
            if execution is None:
                name = chunk.execution_id
                execution = await self._find(name)
            if zlib.crc32(chunk.data) != chunk.crc32:
                raise CallError(Status.DATA_LOSS, "a chunk of the standard input is not what was sent")
            if chunk.execution_id != name:
                raise CallError(Status.INVALID_ARGUMENT, "the chunks of one call are for one execution")
            if execution.input is None:
                raise CallError(Status.FAILED_PRECONDITION, f"execution {name} was started without an input")
            try:
                await execution.input.write(chunk.offset, chunk.data, chunk.eof)
            except InputGap as error:
                raise CallError(Status.OUT_OF_RANGE, str(error)) from None
            if execution.input.broken:
                break
        if execution is None or execution.input is None:
            raise CallError(Status.INVALID_ARGUMENT, "no chunk came")
        await call.send(InputReply(accepted=execution.input.accepted, broken_pipe=execution.input.broken))

    async def wait(self, message: WaitRequest) -> Exited:
        """Answers at once for what has ended."""
        execution = await self._find(message.execution_id)
        await execution.ended.wait()
        assert execution.exited is not None
        return execution.exited

    async def kill(self, message: KillRequest) -> KillReply:
        """Answers once the signal is sent."""
        if not 1 <= message.signal <= _MAX_SIGNAL:
            raise CallError(Status.INVALID_ARGUMENT, f"a signal is 1 to {_MAX_SIGNAL}, not {message.signal}")
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
            raise CallError(Status.INVALID_ARGUMENT, f"a terminal has 0 to {_MAX_TERMINAL} rows and columns")
        execution = await self._find(message.execution_id)
        try:
            execution.resize(size.rows, size.columns)
        except ValueError as error:
            raise CallError(Status.FAILED_PRECONDITION, str(error)) from None
        return ResizeTtyReply()

    async def _find(self, name: str) -> Execution:
        try:
            return await self._executions.find(name)
        except UnknownExecution as error:
            raise CallError(Status.NOT_FOUND, str(error)) from None


async def _follow(follower: Follower, call: EventsCall) -> None:
    def take_credit(request: ExecRequest | AttachRequest) -> None:
        if request.credit is None:
            error = CallError(Status.INVALID_ARGUMENT, "the requests after the first one are credits")
            follower.interrupt(error)
        else:
            follower.allow(request.credit)

    try:
        call.deliver(take_credit)
        await follower.run(call.send)
    except Superseded as error:
        raise CallError(Status.ABORTED, str(error)) from None
    finally:
        # A host that resets the stream has no more use for the output; one whose connection broke will want the rest.
        if call.cut_off:
            follower.hold()
        else:
            follower.release()
