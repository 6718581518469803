"""The training function, its DeepSpeed settings and checkpoints, and the Ray trainer around it."""
