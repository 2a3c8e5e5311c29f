"""gRPC over HTTP/2 for the agent: the server's side, with no more of either than the portal's host uses.

From below: `hpack` and `frames` are formats, `connection` is HTTP/2 and `calls` is gRPC, all of them without I/O;
`server` runs the calls as tasks of `guest.agent.loop`. The host is trusted, so what breaks the rules ends the
connection and need not be survived.
"""
