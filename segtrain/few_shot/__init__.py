"""Generalised few-shot segmentation: one network labels background, base and novel classes in one pass.

Two stages as in POP (Liu et al., CVPR 2023): base classes with all their images (`base_learning`), then novel classes
with a few shots and, as in Syn4Seg, a synthetic set (`novel_learning`). `segtrain few-shot base` and `segtrain few-shot
novel`.
"""
