"""The prompt bank (Syn4Seg: HDIG)."""
