"""How labels are written for a labelling tool or a trainer: `convert --to labelme` is writers/labelme.py."""
