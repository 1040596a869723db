"""`python -m synthgen`, and `accelerate launch -m synthgen`."""

from synthgen.cli import app

if __name__ == "__main__":
    app()
