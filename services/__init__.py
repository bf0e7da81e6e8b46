"""The six services of the mesh, the keeper of each gateway, what they share and what runs them on one machine."""
