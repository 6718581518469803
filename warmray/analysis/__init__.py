"""Tables in, estimates with intervals, frontier, recommendation and report out: no torch, no Ray."""
