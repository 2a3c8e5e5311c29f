"""Ready-made instruments: `spans` for OpenTelemetry (extra `otel`), `logs` for logging and structlog.

Importing this package alone takes none of them.
"""
