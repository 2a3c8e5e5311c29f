"""Measurements, each beside its limit in the same run. `python -m benchmarks boxes|actors` or `make bench`."""
