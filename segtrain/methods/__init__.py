"""Training methods, a folder each; what a folder must hold is said in `segtrain.method`."""
