"""The gRPC portal between the host and the agent inside a box."""
