"""Python imports this at its start if the folder is on PYTHONPATH."""

import os

if os.environ.get("MORTAL"):
    from doubles.mortal import install

    install(os.environ["MORTAL"])
