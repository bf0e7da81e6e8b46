"""The part of a scripted router that runs canaries and A/B tests, tells of rules, and says where requests go."""

import grpc
from google.rpc import code_pb2
from infermesh.router.v1 import (
    ab_test_pb2,
    canary_pb2,
    router_service_pb2,
    router_service_pb2_grpc,
    traffic_rule_pb2,
)

from tests.integration.client.refusing import refuse

Step = canary_pb2.Canary | grpc.StatusCode
"""What the next look at a canary finds: the canary, or a status to fail with."""


class Rollouts(router_service_pb2_grpc.RouterServiceServicer):
    """Keeps one canary and the tests of a model, and every request that changed one."""

    def __init__(self) -> None:
        self.canary: canary_pb2.Canary | None = None
        self.canary_steps: list[Step] = []
        """What the next looks find, one each; then `canary`."""
        self.commands: list[tuple[str, str, str]] = []
        """Verb, etag and reason of what was asked of a rollout."""
        self.resolved: list[router_service_pb2.ResolveRouteRequest] = []
        self.tests_made: list[router_service_pb2.CreateAbTestRequest] = []
        self.concluded: list[router_service_pb2.ConcludeAbTestRequest] = []
        self.ab_tests: dict[str, ab_test_pb2.AbTest] = {}

    def GetCanary(
        self, request: router_service_pb2.GetCanaryRequest, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        step = self.canary_steps.pop(0) if self.canary_steps else self.canary
        if isinstance(step, canary_pb2.Canary):
            return step
        if step is not None:
            context.abort(step, "broken off")
        refuse(context, code_pb2.NOT_FOUND, "TRAFFIC_RULE_NOT_FOUND", f"{request.model_name} had no canary")
        raise AssertionError

    def ListCanaries(
        self, request: router_service_pb2.ListCanariesRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ListCanariesResponse:
        return router_service_pb2.ListCanariesResponse(canaries=[self.canary] if self.canary else [])

    def _moved(
        self, verb: str, status: str, etag: str, reason: str, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        if self.canary is None:
            refuse(context, code_pb2.NOT_FOUND, "TRAFFIC_RULE_NOT_FOUND", "there was no canary")
            raise AssertionError
        if etag and etag != self.canary.etag:
            refuse(context, code_pb2.ABORTED, "ETAG_MISMATCH", "the canary moved on")
        self.commands.append((verb, etag, reason))
        self.canary.status = status
        return self.canary

    def PauseCanary(
        self, request: router_service_pb2.PauseCanaryRequest, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        return self._moved("pause", "paused", request.etag, request.reason, context)

    def ResumeCanary(
        self, request: router_service_pb2.ResumeCanaryRequest, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        return self._moved("resume", "running", request.etag, request.reason, context)

    def PromoteCanary(
        self, request: router_service_pb2.PromoteCanaryRequest, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        return self._moved("promote", "promoted", request.etag, request.reason, context)

    def AbortCanary(
        self, request: router_service_pb2.AbortCanaryRequest, context: grpc.ServicerContext
    ) -> canary_pb2.Canary:
        return self._moved("abort", "aborted", request.etag, request.reason, context)

    def CreateAbTest(
        self, request: router_service_pb2.CreateAbTestRequest, context: grpc.ServicerContext
    ) -> ab_test_pb2.AbTest:
        if request.name in self.ab_tests:
            refuse(context, code_pb2.ALREADY_EXISTS, "AB_TEST_EXISTS", f"there is a test {request.name}")
        self.tests_made.append(request)
        made = ab_test_pb2.AbTest(
            name=request.name,
            model_name=request.model_name,
            versions=request.versions,
            duration_days=request.duration_days,
            metrics=request.metrics,
            auto_promote=request.auto_promote,
            status="running",
        )
        return self.ab_tests.setdefault(request.name, made)

    def _test(self, name: str, context: grpc.ServicerContext) -> ab_test_pb2.AbTest:
        found = self.ab_tests.get(name)
        if found is None:
            refuse(context, code_pb2.NOT_FOUND, "AB_TEST_NOT_FOUND", f"there is no test {name}")
            raise AssertionError
        return found

    def GetAbTest(
        self, request: router_service_pb2.GetAbTestRequest, context: grpc.ServicerContext
    ) -> ab_test_pb2.AbTest:
        return self._test(request.name, context)

    def ListAbTests(
        self, request: router_service_pb2.ListAbTestsRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ListAbTestsResponse:
        found = [one for one in self.ab_tests.values() if request.status in {"", one.status}]
        return router_service_pb2.ListAbTestsResponse(ab_tests=found)

    def StopAbTest(
        self, request: router_service_pb2.StopAbTestRequest, context: grpc.ServicerContext
    ) -> ab_test_pb2.AbTest:
        self.commands.append(("stop", request.etag, request.reason))
        found = self._test(request.name, context)
        found.status = "stopped"
        return found

    def ConcludeAbTest(
        self, request: router_service_pb2.ConcludeAbTestRequest, context: grpc.ServicerContext
    ) -> ab_test_pb2.AbTest:
        self.concluded.append(request)
        found = self._test(request.name, context)
        found.status = "completed"
        return found

    def ResolveRoute(
        self, request: router_service_pb2.ResolveRouteRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ResolveRouteResponse:
        self.resolved.append(request)
        if "x-user-id" in request.headers:
            return router_service_pb2.ResolveRouteResponse(
                version="v1.1.0", decided_by="sticky", explanation="the key 42 has place 7", split={"v1.1.0": 100}
            )
        return router_service_pb2.ResolveRouteResponse(decided_by="chance", split={"v1.0.0": 90, "v1.1.0": 10})

    def ListTrafficRules(
        self, request: router_service_pb2.ListTrafficRulesRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ListTrafficRulesResponse:
        rule = traffic_rule_pb2.TrafficRule(
            rule_name="split", rule_type="split", status="active", version_weights={"v1.0.0": 90, "v1.1.0": 10}
        )
        return router_service_pb2.ListTrafficRulesResponse(traffic_rules=[rule])
