"""`synthgen adapt`: a generator that follows the label maps of a labelled folder (DGInStyle, Jia et al., ECCV 2024)."""
