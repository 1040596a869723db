"""`segtrain report`: one HTML page about a training that needs nothing but a browser."""
