"""Parts of `decode_overhead.py`: shapes, timing, bounds, the re-encoding baseline, reports."""
