"""Foreign checkpoints, read without running anything of them."""
