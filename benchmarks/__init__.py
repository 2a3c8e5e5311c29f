"""Measurements, each beside its limit or a peer in the same run. `python -m benchmarks boxes` or `make bench`."""
