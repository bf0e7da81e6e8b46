"""The commands, a module for each group. Every module has `add_to(app)`."""
