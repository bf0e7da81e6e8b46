"""Artifacts as registry and deployer both handle them: what may be in an archive, and how it is unpacked."""
