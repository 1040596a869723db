"""`synthgen report`: one HTML page about a run that needs nothing but a browser."""
