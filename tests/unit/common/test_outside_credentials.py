"""Tokens for servers of others: each found by its team and its name, by nobody else, and told to nobody."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.outside_credentials import Credentials, NoCredentialError, credential_of, without
from services.supervisor.settings import ROOT

TOKEN = "s3cret.Token-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for team in ("vision", "fraud"):
        (tmp_path / team).mkdir()
        (tmp_path / team / "server").write_text(f"{team}-{TOKEN}\n")
    (tmp_path / "server").write_text(TOKEN)
    return tmp_path


def test_each_team_has_its_own_under_the_same_name(folder: Path) -> None:
    kept = Credentials(str(folder))
    assert kept.bearer(credential_of("vision", "server"), tls=True) == f"vision-{TOKEN}"
    assert kept.bearer(credential_of("fraud", "server"), tls=True) == f"fraud-{TOKEN}"
    assert kept.bearer(credential_of("", "server"), tls=True) == TOKEN
    assert credential_of("vision", "") == ""


def test_a_file_that_changes_or_goes_is_noticed_at_the_next_use(folder: Path) -> None:
    kept, file = Credentials(str(folder)), folder / "vision" / "server"
    assert kept.bearer("vision/server", tls=True) == f"vision-{TOKEN}"
    # As a mounted Secret is renewed: another file takes its place.
    new = file.with_name("new")
    new.write_text("renewed-token")
    new.rename(file)
    assert kept.bearer("vision/server", tls=True) == "renewed-token"
    file.unlink()
    with pytest.raises(NoCredentialError, match="INFERMESH_EXTERNAL_CREDENTIALS"):
        kept.bearer("vision/server", tls=True)


def test_without_tls_none_is_shown(folder: Path) -> None:
    with pytest.raises(NoCredentialError, match="by TLS alone"):
        Credentials(str(folder)).bearer("vision/server", tls=False)


@pytest.mark.parametrize("content", ["", "two words", "two\r\nlines: x", "ümlaut", "x" * 20_000])
def test_what_is_no_token_is_refused_and_not_told(folder: Path, content: str) -> None:
    (folder / "vision" / "server").write_text(content)
    with pytest.raises(NoCredentialError, match="printable ASCII without blanks") as refused:
        Credentials(str(folder)).bearer("vision/server", tls=True)
    assert not content or content not in str(refused.value)


def test_without_a_folder_it_is_said_what_to_do() -> None:
    with pytest.raises(NoCredentialError, match="set INFERMESH_EXTERNAL_CREDENTIALS for deployer and batchers"):
        Credentials().bearer("vision/server", tls=True)


@given(
    st.sampled_from(("vision", "", "..", "fraud/..", ".")) | st.text(max_size=8),
    st.sampled_from(("server", "../fraud/server", "..", "fraud/server", "/etc/passwd")) | st.text(max_size=8),
)
def test_no_name_leads_out_of_a_teams_own_folder(team: str, name: str) -> None:
    """Whatever a team is called and whatever it asks for: it gets its own, or nothing."""
    folder = ROOT / "tests" / "data" / "credentials"
    try:
        token = Credentials(str(folder)).bearer(credential_of(team, name), tls=True)
    except NoCredentialError:
        return
    assert token == f"of-{team or 'nobody'}"
    assert (team, name) in {("vision", "server"), ("fraud", "server"), ("", "server")}


@pytest.mark.parametrize("name", ["..", "a/b", "/a", ".hidden", "a\nb", "", "-", "x" * 64])
def test_names_are_names(name: str, folder: Path) -> None:
    with pytest.raises(NoCredentialError, match="cannot name a credential"):
        Credentials(str(folder)).bearer(f"vision/{name}", tls=True)


def test_what_a_server_says_is_told_without_the_token() -> None:
    assert without(TOKEN, f"no user for Bearer {TOKEN}") == "no user for Bearer [credential]"
    assert without("", "as it is") == "as it is"
