import assert from "node:assert/strict";
import { test } from "node:test";
import { errorFrom, nextStep } from "../src/api/errors.ts";
import { Lines } from "../src/api/lines.ts";
import { delayMs, LONGEST_MS } from "../src/live/backoff.ts";
import { pathOf, placeOf, titleOf } from "../src/routing.ts";

test("an error is what the API said, with its word and its fields", () => {
  const error = errorFrom(400, JSON.stringify({
    code: 3, message: "shares add up to 90",
    details: [
      { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "WEIGHTS_INVALID", domain: "infermesh" },
      { "@type": "type.googleapis.com/google.rpc.BadRequest", field_violations: [{ field: "traffic_split", description: "must be 100" }] },
    ],
  }));
  assert.equal(error.message, "shares add up to 90");
  assert.equal(error.reason, "WEIGHTS_INVALID");
  assert.deepEqual(error.violations, [{ field: "traffic_split", description: "must be 100" }]);
});

test("what is no error of the API is quoted", () => {
  assert.match(errorFrom(502, "<html>bad gateway").message, /502 without a message: <html>bad gateway/);
  assert.match(errorFrom(500, "").message, /nothing/);
  assert.match(errorFrom(500, "[1]").message, /500/);
});

test("errors that call for something say what", () => {
  assert.match(nextStep(0, ""), /make run/);
  assert.match(nextStep(401, ""), /key/i);
  assert.match(nextStep(412, "ETAG_MISMATCH"), /plan again/);
  assert.match(nextStep(412, "ROLLOUT_IN_PROGRESS"), /Releases/);
  assert.equal(nextStep(400, "WEIGHTS_INVALID"), "");
});

test("lines come whole however the stream is cut", () => {
  const text = '{"a":1}\n{"b":"ü"}\r\n\n{"c":3}\n';
  for (let size = 1; size <= text.length; size += 1) {
    const lines = new Lines();
    const found: string[] = [];
    for (let at = 0; at < text.length; at += size) found.push(...lines.push(text.slice(at, at + size)));
    assert.deepEqual(found, ['{"a":1}', '{"b":"ü"}', '{"c":3}']);
  }
  assert.deepEqual(new Lines().push('{"half":'), []);
});

test("pauses grow with failures, to a bound, and never below the period", () => {
  assert.equal(delayMs(2000, 0, 0.5), 2000);
  const delays = [1, 2, 3, 4].map((failures) => delayMs(2000, failures, 0.5));
  assert.deepEqual(delays, [4000, 8000, 16_000, 32_000]);
  for (const chance of [0, 0.5, 1]) {
    assert.ok(delayMs(10, 1, chance) >= 1000);
    assert.ok(delayMs(2000, 100, chance) <= LONGEST_MS * 1.25);
    assert.ok(delayMs(120_000, 3, chance) >= 90_000);
  }
});

test("every page has an address, and every address is a page", () => {
  const names = ["digits", "a/b", "ü %", "v1.0.0"];
  assert.deepEqual(placeOf("/console"), { page: "overview" });
  assert.deepEqual(placeOf("/console/"), { page: "overview" });
  for (const model of names) {
    assert.deepEqual(placeOf(pathOf("models", model)), { page: "model", model });
    assert.deepEqual(placeOf(pathOf("models", model, "traffic")), { page: "traffic", model });
    assert.deepEqual(placeOf(pathOf("models", model, "releases")), { page: "releases", model });
    assert.deepEqual(placeOf(pathOf("models", model, "versions", "v1.0.0")), { page: "version", model, version: "v1.0.0" });
    assert.deepEqual(placeOf(pathOf("models", model, "drift")), { page: "drift", model, report: "" });
    assert.deepEqual(placeOf(pathOf("models", model, "drift", "dr_1")), { page: "drift", model, report: "dr_1" });
    assert.deepEqual(placeOf(pathOf("models", model, "log")), { page: "log", model, request: "" });
    assert.deepEqual(placeOf(pathOf("models", "digits", "log", model)), { page: "log", model: "digits", request: model });
    assert.deepEqual(placeOf(pathOf("jobs", model)), { page: "job", job: model });
  }
  for (const page of ["jobs", "schedules", "alerts", "usage"] as const) assert.deepEqual(placeOf(pathOf(page)), { page });
  for (const page of ["rules", "channels", "silences"] as const) assert.deepEqual(placeOf(pathOf("alerts", page)), { page });
  for (const path of ["/console/models", "/console/nothing", "/console/models/a/b", "/console/jobs/a/b", "/console/alerts/nothing", "/console/alerts/rules/a", "/console/models/a/drift/b/c", "/console//jobs", "/console/models/%zz"]) {
    assert.equal(placeOf(path).page, "nowhere", path);
  }
  assert.equal(titleOf(placeOf("/console/models/digits/traffic")), "Traffic of digits");
});
