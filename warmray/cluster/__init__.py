"""The Ray session, submitted jobs and their progress."""
