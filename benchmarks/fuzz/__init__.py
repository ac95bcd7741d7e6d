"""Mutated inputs at the doors of the second channel; see `benchmarks/fuzz_doors.py`."""
