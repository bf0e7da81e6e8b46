"""Pure decisions: what is wished, what a package holds, what to do next, what to publish."""
