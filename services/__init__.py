"""The six services of the mesh, what they share (`common`) and what runs them on one machine (`supervisor`)."""
