"""The protocols that the batcher speaks, over one core: decode, resolve, validate, infer, encode."""
