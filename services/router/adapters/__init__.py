"""What the router needs of the world, made real."""
