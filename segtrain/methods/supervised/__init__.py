"""Cross-entropy on labelled images."""
