"""Trains the mini models: one resumable command each."""
