"""Bytes of the protocols ⇄ the batcher's values. Decides nothing; refuses what it cannot read with MALFORMED_BODY."""
