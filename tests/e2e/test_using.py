"""docs/using.md, followed to the letter: every `sh` block is run, in order, by one shell session a block."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from services.supervisor.settings import ROOT
from tests.support.mesh import Mesh

DOCUMENT = ROOT / "docs" / "using.md"
TIMEOUT_S = 90.0
DEFAULT_GATEWAY = "127.0.0.1:8080"


def blocks() -> list[str]:
    """The commands of the document, as a reader would paste them."""
    return re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)


def python_program() -> str:
    """The first Python block: a whole program, unlike the excerpt that comes later."""
    found = re.search(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def pasted(mesh: Mesh, home: Path, *argv: str) -> str:
    """What it prints. Fails with all of it where it fails."""
    finished = subprocess.run(
        argv,
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ},
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "COLUMNS": "140",
            "INFERMESH_GATEWAY": mesh.gateway,
            "INFERMESH_API_KEY": mesh.key,
            "INFERMESH_FEATURE_STORE": f"redis://127.0.0.1:{mesh.port('redis')}/0",
            "INFERMESH_DATA_DIR": str(mesh.data_dir),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, f"{argv[-1]}\n{finished.stdout}\n{finished.stderr}"
    assert "Traceback" not in finished.stderr
    return finished.stdout


@pytest.mark.timeout(300)
def test_every_command_of_the_document_works_in_its_order(mesh: Mesh, tmp_path: Path) -> None:
    found = [block.replace(DEFAULT_GATEWAY, mesh.gateway) for block in blocks()]
    assert len(found) >= 12
    # The example clients take the gateway as an argument and would go to the default.
    found = [re.sub(r"(examples\.clients\.\w+)$", rf"\1 {mesh.gateway}", block, flags=re.MULTILINE) for block in found]
    said = "".join(pasted(mesh, tmp_path, "bash", "-euo", "pipefail", "-c", block) for block in found)
    for word in ("setosa", "iris v1.1.0", "completed", "champion", "try the forest", "it is a"):
        assert word in said


def test_the_python_program_works(mesh: Mesh, tmp_path: Path) -> None:
    program = python_program().replace(DEFAULT_GATEWAY, mesh.gateway)
    said = pasted(mesh, tmp_path, str(ROOT / ".venv" / "bin" / "python"), "-c", program)
    assert said.startswith("v1.1.0 ")
    assert "SCHEMA_VIOLATION" in said
