"""Runs every check and writes the page."""

from benchmarks.compatibility.page import main

if __name__ == "__main__":
    main()
