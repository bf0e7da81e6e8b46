"""Signatures of versions through the engine: taken, kept, and checked again for other signers."""

from services.registry.domain.team_rules import TeamRules
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryCatalogue, new
from tests.support.registry_reading import FakeChecker, MemoryTeamRules, unsigned


async def test_a_signature_follows_whom_the_team_trusts() -> None:
    rules, checker = MemoryTeamRules({"": TeamRules(trusted_signers=("ada",))}), FakeChecker()
    verifying = unsigned(rules, checker)
    version = await MemoryCatalogue(FakeClock()).register(new())
    assert await verifying.current(version) == version
    signed = await verifying.take(version, b"ada")
    assert signed.signature is not None
    assert (signed.signature.verified, signed.signature.signer) == (True, "ada")
    assert (await verifying.current(signed)).signature == signed.signature
    rules.known[""] = TeamRules(trusted_signers=("bob",))
    lost = await verifying.current(signed)
    assert lost.signature is not None
    assert (lost.signature.verified, "ada is not trusted" in lost.signature.problem) == (False, True)
    rules.known[""] = TeamRules(trusted_signers=("bob", "ada"))
    again = await verifying.current(signed)
    assert again.signature is not None
    assert again.signature.verified
    # The artifact's files were looked at once.
    assert checker.manifests_read == 1


async def test_a_bad_signature_takes_no_good_ones_place() -> None:
    verifying = unsigned(MemoryTeamRules({"": TeamRules(trusted_signers=("ada",))}))
    version = await MemoryCatalogue(FakeClock()).register(new())
    bad = await verifying.take(version, b"eve")
    assert bad.signature is not None
    assert not bad.signature.verified
    good = await verifying.take(version, b"ada")
    assert (await verifying.take(version, b"eve")).signature == good.signature
