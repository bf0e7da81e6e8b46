"""What must be installed for a version to run."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from services.common.errors import MeshError, Reason
from services.deployer.domain.environment import FRAMEWORKS, Environment, environment_of, lock_versions
from services.supervisor.settings import ROOT

LOCKED: Mapping[str, Mapping[str, str]] = {
    name: lock_versions((ROOT / "requirements" / "frameworks" / f"{name}.lock").read_text()) for name in FRAMEWORKS
}
HAVE = LOCKED["sklearn"]["scikit-learn"]


def environment(
    framework: str = "sklearn", *, version: str = "", stated: Sequence[str] = (), own_code: bool = False
) -> Environment:
    return environment_of(
        framework, framework_version=version, stated=stated, own_code=own_code, locked=LOCKED[framework]
    )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_lock_file_has_what_the_adapter_imports_and_numpy_1(framework: str) -> None:
    kind, locked = FRAMEWORKS[framework], LOCKED[framework]
    assert {*kind.needs, "numpy", "pyyaml"} <= set(locked)
    assert locked["numpy"].startswith("1.")
    assert not kind.package or kind.package in kind.needs


@pytest.mark.parametrize(
    ("framework", "version", "stated"),
    [
        ("sklearn", "", ()),
        ("sklearn", HAVE, (f"scikit-learn=={HAVE}", "# a comment", "", "numpy>=1.20", "scipy  # for sparse")),
        ("sklearn", "no version", ()),
        ("xgboost", "1.7.0", ("xgboost>=2",)),
        ("xgboost", "", ("xgboost==1.7.6",)),
        ("sklearn", HAVE, tuple(f"scipy\t# {line}" for line in range(400))),
        ("lightgbm", LOCKED["lightgbm"]["lightgbm"], ()),
        ("pytorch", "2.1.0", ("torch", "nothing-of-it==1; python_version < '3'")),
        ("python", "3.11", ("pyyaml",)),
    ],
)
def test_what_the_lock_file_meets_is_run_by_the_lock_file(framework: str, version: str, stated: Sequence[str]) -> None:
    assert environment(framework, version=version, stated=stated) == Environment(framework)


@pytest.mark.parametrize(
    ("framework", "version", "stated", "expected"),
    [
        ("sklearn", "1.5.2", (), "scikit-learn==1.5.2"),
        ("sklearn", "1.5.2", ("scikit-learn==1.4.0",), "scikit-learn==1.4.0"),
        ("sklearn", "", ("Scikit_Learn==1.4.0 --hash=sha256:00",), "scikit-learn==1.4.0"),
        ("xgboost", "99.0.0", (), "xgboost-cpu==99.0.0"),
        ("xgboost", "", ("xgboost==99.1.4",), "xgboost-cpu==99.1.4"),
        ("xgboost", "", ("xgboost<3",), "xgboost-cpu<3"),
        ("sklearn", "", ("pandas[excel]",), "pandas[excel]"),
        ("pytorch", "v99.1", (), "torch==99.1"),
        ("tensorflow", "", ("tensorflow~=2.18.0",), "tensorflow-cpu~=2.18.0"),
    ],
)
def test_a_version_that_was_written_by_another_gets_that(
    framework: str, version: str, stated: Sequence[str], expected: str
) -> None:
    made = environment(framework, version=version, stated=stated)
    assert expected in made.requirements
    assert {Requirement(one).name for one in made.requirements} >= {*FRAMEWORKS[framework].needs, "numpy", "pyyaml"}
    assert "numpy<2" in made.requirements
    assert made.left_out == ()


def test_only_code_gets_what_its_framework_is_not_made_of() -> None:
    stated = ("mlflow==2.1", "requests>=2", "numpy==2.1.0", "scikit-learn==1.5.2")
    made = environment(stated=stated)
    assert made.left_out == (
        "mlflow==2.1 (no part of sklearn)",
        "requests>=2 (no part of sklearn)",
        "numpy==2.1.0 (Triton's python backend needs numpy 1)",
    )
    assert not any(one.startswith(("mlflow", "requests")) for one in made.requirements)
    code = environment("python", stated=("requests>=2", "numpy<1.25", "requests<3"), own_code=True)
    assert code.requirements == ("numpy<1.25,<2", "pyyaml", "requests<3,>=2")
    many = environment(stated=[f"package-{number}" for number in range(100)])
    assert len(many.left_out) == 11
    assert many.left_out[-1] == "and 90 more"
    extras = environment("python", stated=("uvicorn[standard]", "uvicorn>=0.20"), own_code=True)
    assert "uvicorn[standard]>=0.20" in extras.requirements


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-e .", "no options of pip"),
        ("--index-url https://elsewhere", "no options of pip"),
        ("-r more.txt", "no options of pip"),
        ("thing @ https://elsewhere/thing.whl", "no address"),
        ("thing @ file:///etc/passwd", "no address"),
        ("./thing.whl", "a requirement"),
        ("git+https://elsewhere/thing", "a requirement"),
        ("thing == = 3", "a requirement"),
        ("thing===abc", "no ==="),
        ("x" * 2000, "no options of pip"),
    ],
)
def test_what_is_no_package_of_the_index_is_refused_with_the_line(line: str, said: str) -> None:
    with pytest.raises(MeshError, match=said) as refused:
        environment("python", stated=("numpy", line), own_code=True)
    assert refused.value.reason is Reason.ARTIFACT_INVALID
    assert repr(line[:80]) in refused.value.message


@given(st.lists(st.text(max_size=60), max_size=5), st.text(max_size=20), st.sampled_from(sorted(FRAMEWORKS)))
def test_any_text_is_refused_or_installed_from_the_index_by_its_name(
    lines: list[str], version: str, framework: str
) -> None:
    try:
        made = environment(framework, version=version, stated=lines, own_code=True)
    except MeshError:
        return
    for one in made.requirements:
        assert Requirement(one).url is None
        assert "\n" not in one
        assert not one.startswith("-")


def test_equal_contents_have_one_name_and_others_another() -> None:
    own = environment(version="1.5.2")
    assert own.key("a lock", "python3.11") == environment(version="1.5.2").key("another", "python3.11")
    assert environment().key("a lock", "p") == environment(version=HAVE).key("a lock", "p")
    names = {
        own.key("a lock", "p"),
        own.key("a lock", "another p"),
        environment().key("a lock", "p"),
        environment().key("another lock", "p"),
        environment("xgboost").key("a lock", "p"),
        environment(version="1.5.1").key("a lock", "p"),
    }
    assert len(names) == 6


def test_the_lock_files_of_frameworks_can_be_what_a_version_asks_for() -> None:
    for framework in FRAMEWORKS:
        lines = (ROOT / "requirements" / "frameworks" / f"{framework}.lock").read_text().splitlines()
        assert environment(framework, stated=lines) == Environment(framework)
    with pytest.raises(MeshError, match="at most 500 requirements"):
        environment("python", stated=[f"package-{number}" for number in range(501)], own_code=True)
