"""Clients as their users write them, against the digits model; each is one short file to copy from."""
