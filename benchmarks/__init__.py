"""What the worker costs: CPU per event of its paths, beside a straightforward worker measured in the same run (docs/performance.md)."""
