"""Adapters that peft trained elsewhere, as runs."""
