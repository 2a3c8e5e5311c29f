"""A page about performance and its pictures, made from the rows of one run: `python -m benchmarks report FILE`."""
