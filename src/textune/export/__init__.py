"""Runs in forms that other tools load."""
