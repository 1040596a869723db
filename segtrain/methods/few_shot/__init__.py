"""Generalised few-shot segmentation: base classes first, then novel ones from a few shots.

One network labels background, base and novel classes in one pass. Two stages as in POP (Liu et al., CVPR 2023): base
classes with all their images (`base_learning`), then novel classes with a few shots and, as in Syn4Seg, a synthetic set
(`novel_learning`).
"""

COMMANDS = {"few-shot base": "BaseConfig", "few-shot novel": "NovelConfig"}
