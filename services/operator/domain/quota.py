"""Whether a namespace's quotas have room for what is wished: asked before anything moves, so that a change that cannot
come to its end does not begin. The API server's own word, when it makes pods, is the last one."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from services.common.body import Body, items, name_of, table, text, whole
from services.common.quantity import parse_quantity
from services.operator.domain.manifests.parts import Manifest

_REQUESTS = {"cpu", "memory", "pods"}


def quota_problem(quotas: Iterable[Body], wanted: Manifest, live: Body | None) -> str:
    """What to tell whoever wishes a Deployment that does not fit in; empty where it does, or where nothing is limited.
    `live`: the Deployment as it is, whose pods are counted already."""
    asked, held = _use(wanted, replicas=whole(wanted, "spec", "replicas", default=1)), _use_of_pods(live)
    for quota in quotas:
        hard, used = table(quota, "status", "hard"), table(quota, "status", "used")
        for resource, limit in sorted(hard.items()):
            more = asked.get(resource, Fraction(0)) - held.get(resource, Fraction(0))
            allowed = parse_quantity(str(limit))
            taken = parse_quantity(text(used, resource, default="0")) or Fraction(0)
            if allowed is not None and more > 0 and taken + more > allowed:
                return (
                    f"quota {name_of(quota)} allows {limit} of {resource}, {_plain(taken)} is used, and "
                    f"this needs {_plain(more)} more; scale something down, or ask a platform admin for more"
                )
    return ""


def _use(deployment: Body, *, replicas: int) -> Mapping[str, Fraction]:
    """What so many pods of a Deployment take, by a quota's words."""
    pod = table(deployment, "spec", "template", "spec")
    use: dict[str, Fraction] = {"pods": Fraction(replicas)}
    for container in items(pod, "containers"):
        for kind in ("requests", "limits"):
            for resource, quantity in table(container, "resources", kind).items():
                amount = (parse_quantity(str(quantity)) or Fraction(0)) * replicas
                words = [f"{kind}.{resource}"]
                if kind == "requests" and resource in _REQUESTS:
                    words.append(resource)
                for word in words:
                    use[word] = use.get(word, Fraction(0)) + amount
    return use


def _use_of_pods(live: Body | None) -> Mapping[str, Fraction]:
    return {} if live is None else _use(live, replicas=whole(live, "status", "replicas"))


def _plain(number: Fraction) -> str:
    return f"{float(number):g}" if number.denominator != 1 else str(number.numerator)
