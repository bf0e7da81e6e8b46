"""What anyone can run again: the mesh against bare Triton, in the same run, as ratios."""
