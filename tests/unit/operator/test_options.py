"""What the operator's settings come to for all that it makes."""

from pathlib import Path

import pytest

from services.operator.settings import OperatorSettings
from services.operator.wiring import options_of


def test_how_replicas_speak_to_the_gateway(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_text("PEM")
    for said, meant in (("", ""), ("system", "system"), (str(authorities), "secret")):
        assert options_of(OperatorSettings(gateway_tls=said)).gateway_tls == meant
    with pytest.raises(SystemExit, match="INFERMESH_OPERATOR_GATEWAY_TLS is '/nowhere'"):
        options_of(OperatorSettings(gateway_tls="/nowhere"))
