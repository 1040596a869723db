"""`synthgen improve`: what a trained segmenter is weak at decides what is made next, round after round."""
