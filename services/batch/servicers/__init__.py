"""What the batch service answers to others of the mesh."""
