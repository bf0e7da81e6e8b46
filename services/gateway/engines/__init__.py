"""The streams of gateways, and what of them goes to disk when."""
