"""Signals and child processes."""
