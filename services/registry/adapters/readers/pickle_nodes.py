"""What a pickle describes, as inert values: nothing here can run anything."""

from dataclasses import dataclass, field

Plain = None | bool | int | float | str | bytes


@dataclass(slots=True)
class Global:
    """Something that loading the pickle would import. `name` is "" where the pickle computes it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Made:
    """What calling something would give, with what would be put into it afterwards."""

    maker: object
    arguments: object
    state: object = None
    items: list[object] = field(default_factory=list)
    members: dict[object, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The full name of its class or maker; "" where that is not known."""
        maker = self.maker
        first = self.arguments[0] if isinstance(self.arguments, tuple) and self.arguments else None
        if isinstance(maker, Global) and maker.name in ("_reconstructor", "__newobj__") and isinstance(first, Global):
            maker = first
        return str(maker) if isinstance(maker, Global) else ""

    @property
    def attributes(self) -> dict[object, object]:
        """Its attributes, as far as its state says them."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return state if isinstance(state, dict) else {}


@dataclass(slots=True)
class Opaque:
    """A value that is of no interest here: long bytes, or something that other code would supply."""

    what: str


class Mark:
    """Where a group of values begins on the stack."""
