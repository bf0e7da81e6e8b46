"""What `infermesh deploy --pad …` asks for."""

import pytest
import typer
from infermesh.client.cli.padding import parse_padding
from infermesh.common.v1 import serving_pb2


def test_nothing_said_is_no_padding() -> None:
    assert parse_padding([]) is None


def test_each_option_arrives() -> None:
    padding = parse_padding(["1", "mask=0", "a=b=-2.5"], lengths="lengths", trim=["logits"], waste=0.25)
    assert padding == serving_pb2.Padding(
        value=1,
        input_values={"mask": 0, "a=b": -2.5},
        lengths_input="lengths",
        trim_outputs=["logits"],
        waste_max=0.25,
    )


@pytest.mark.parametrize("told", [{"lengths": "n"}, {"trim": ["y"]}, {"waste": 0.0}])
def test_any_of_them_declares_it(told: dict[str, object]) -> None:
    assert parse_padding([], **told) is not None  # type: ignore[arg-type]


def test_a_share_that_is_not_given_is_left_to_the_deployer() -> None:
    padding = parse_padding(["0"])
    assert padding is not None
    assert not padding.HasField("waste_max")


@pytest.mark.parametrize("text", ["", "mask", "mask=", "mask=x", "nan", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="nothing to fill in"):
        parse_padding([text])
