"""A model of one's own, as docs/using.md walks through it: trained, registered, deployed, replaced."""
