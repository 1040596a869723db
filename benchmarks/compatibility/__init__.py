"""What other people's tools make of our datasets:

`python -m benchmarks.compatibility [--with PYTHON]...` writes docs/COMPATIBILITY.md.
"""
