"""The `infermesh` command: tables for people, `--json` for scripts, exit codes for both.

It knows the public API alone, through the client, and so works from any machine that reaches a gateway.
"""

from infermesh.client.cli.app import main

__all__ = ["main"]
