"""The search space, the Ray Tune run, and the result folder."""
