"""The mini model family:

the worlds that it learns from (world/), how it is trained (train/), and the weights (weights/).
"""
