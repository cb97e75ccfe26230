"""The training loop, its checkpoints, losses and the solved head."""
