"""What the keeper reads of its environment, and what it says of wrong variables."""

from pathlib import Path

import pytest

from services.gateway.settings import load

NEEDED = {"INFERMESH_GATEWAY_ROUTER_ADDRESS": "127.0.0.1:8102", "INFERMESH_GATEWAY_DATA_DIR": "/data"}


def test_variables_become_what_they_are() -> None:
    settings = load({**NEEDED, "INFERMESH_GATEWAY_PORT": "9000", "INFERMESH_GATEWAY_PATIENCE_S": "2.5"})
    assert (settings.router_address, settings.data_dir) == ("127.0.0.1:8102", Path("/data"))
    assert (settings.port, settings.patience_s, settings.connect_timeout_s) == (9000, 2.5, 0.5)


def test_what_is_for_others_is_left_alone() -> None:
    assert load({**NEEDED, "INFERMESH_GATEWAY_THREADS": "2"}) == load(NEEDED)


def test_every_wrong_variable_is_a_sentence_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load({"INFERMESH_GATEWAY_PORT": "all", "INFERMESH_GATEWAY_PATIENCE_S": "-1", "INFERMESH_GATEWAY_DATA_DIR": "x"})
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    for variable, line in zip(("PORT", "ROUTER_ADDRESS", "PATIENCE_S"), said, strict=True):
        assert line.startswith(f"INFERMESH_GATEWAY_{variable} is ")
        assert line.endswith("; set it and start again")
