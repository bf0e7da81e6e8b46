"""What the gateway serves as the console is what its source gives. Seen without Node: the build left a digest."""

import hashlib
import subprocess

from tests.unit.repository.test_shape import ROOT

SOURCE = ROOT / "console"
BUILT = ROOT / "services/router/adapters/envoy/console_page"


def test_the_console_was_built_of_the_source_that_is_here() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src", "build.ts", "package-lock.json"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    digest = hashlib.sha256()
    for name in sorted(name for name in listed if (SOURCE / name).exists()):
        digest.update(f"{name}\0".encode() + (SOURCE / name).read_bytes() + b"\0")
    built_of = (BUILT / "source.sha256").read_text().strip()
    assert built_of == digest.hexdigest(), "the console is not built of console/src as it is; run make console"
