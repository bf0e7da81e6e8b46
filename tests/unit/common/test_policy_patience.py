"""How long calls may take whose callers say nothing of it."""

from services.common.access.policy import RULES, rule_of


def test_calls_that_move_whole_artifacts_have_an_hour_and_others_half_a_minute() -> None:
    registry = "/infermesh.registry.v1"
    long = {
        f"{registry}.RegistryService/CreateModel",
        f"{registry}.RegistryService/ImportModels",
        f"{registry}.ArtifactService/CompleteUpload",
        f"{registry}.ArtifactService/InspectArtifact",
        f"{registry}.ArtifactService/CollectGarbage",
    }
    assert {method for method, rule in RULES.items() if rule.patience_s > 30} == long
    assert rule_of("/nobody.knows/This").patience_s == 30
