"""Coarse masks to final masks (Syn4Seg: APE, SABR)."""
