"""Speed against other trainers: the same model and conversations, one process after the other."""
