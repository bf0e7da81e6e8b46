import assert from "node:assert/strict";
import { test } from "node:test";
import { boundary, comparesWithBaseline, criterionValue, interval, known, limitSaid } from "../src/format/criteria.ts";
import { deedsOf, stateOf } from "../src/format/jobs.ts";
import { bytes, count, duration, milliseconds, percent, rate, short } from "../src/format/numbers.ts";
import { drawn, stepFor } from "../src/format/series.ts";
import { before, between, relative } from "../src/format/times.ts";
import { byTeam } from "../src/format/usage.ts";

/** Narrow blanks as blanks, so that expectations can be read. */
const plain = (text: string) => text.replaceAll("\u202f", " ");

test("numbers have units, and no more digits than say something", () => {
  assert.equal(plain(milliseconds(0.4567)), "0.46 ms");
  assert.equal(plain(milliseconds(12.34)), "12.3 ms");
  assert.equal(plain(milliseconds(456.7)), "457 ms");
  assert.equal(plain(milliseconds(1500)), "1.5 s");
  assert.equal(plain(milliseconds(90_000)), "1 min 30 s");
  assert.equal(plain(percent(0)), "0 %");
  assert.equal(plain(percent(1)), "100 %");
  assert.equal(plain(percent(0.1234)), "12.3 %");
  assert.equal(plain(percent(0.01)), "1 %");
  assert.equal(plain(percent(0.00123)), "0.12 %");
  assert.equal(plain(percent(0.000001)), "<0.001 %");
  assert.equal(plain(bytes(999)), "999 B");
  assert.equal(plain(bytes(1_230_000)), "1.23 MB");
  assert.equal(plain(rate(0.5)), "0.5 /s");
  assert.equal(plain(rate(5000, "rows/s")), "5,000 rows/s");
  assert.equal(count(1500), "1,500");
  assert.equal(count(1_500_000), "1.5 million");
  assert.equal(short(0.00001), "1.0e-5");
  assert.equal(short(100), "100");
});

test("what is not there is not a zero", () => {
  for (const format of [milliseconds, percent, bytes, rate, count, short, duration]) {
    assert.equal(format(undefined), "–");
    assert.equal(format(Number.NaN), "–");
    // As the API prints numbers that have no value.
    assert.equal(format("NaN" as unknown as number), "–");
  }
});

test("lengths of time have their two greatest units", () => {
  assert.equal(plain(duration(0)), "0 s");
  assert.equal(plain(duration(0.4)), "<1 s");
  assert.equal(plain(duration(61)), "1 min 1 s");
  assert.equal(plain(duration(3600)), "1 h");
  assert.equal(plain(duration(90_061)), "1 d 1 h");
  assert.equal(plain(duration(86_400 + 59)), "1 d");
});

test("moments are said by how far they are", () => {
  const now = Date.parse("2026-02-05T10:00:00Z");
  assert.equal(plain(relative("2026-02-05T09:58:30Z", now)), "1 min ago");
  assert.equal(plain(relative("2026-02-05T12:00:00Z", now)), "in 2 h");
  assert.equal(relative("2026-02-05T10:00:01Z", now), "now");
  assert.equal(relative(undefined, now), "–");
  assert.equal(before(now, 60), "2026-02-05T09:59:00.000Z");
  assert.equal(between("2026-02-05T09:00:00Z", "2026-02-05T09:00:01Z"), 1000);
  assert.equal(between(undefined, "2026-02-05T09:00:01Z"), undefined);
});

test("a series has every step: without requests the rate is 0 and nothing was measured", () => {
  const latency = { p50: 1, p95: 2, p99: 3, avg: 1 };
  const points = [
    { start_time: "1970-01-01T00:01:00Z", metrics: { request_count: 120, error_count: 12, error_rate: 0.1, latency } },
    { start_time: "1970-01-01T00:03:00Z", metrics: { request_count: 5, error_count: 5, error_rate: 1, latency } },
  ];
  const made = drawn(points, "minute", 65, 210);
  assert.deepEqual(made.times, [60, 120, 180]);
  // The last step is half a minute old.
  assert.deepEqual(made.rates, [2, 0, 5 / 30]);
  assert.deepEqual(made.errors, [0.1, null, 1]);
  assert.deepEqual(made.p95, [2, null, null]);
});

test("a window has a step that gives it between 60 and 400 points, or few days", () => {
  assert.deepEqual([3600, 21_600, 86_400, 604_800, 2_592_000].map(stepFor), ["minute", "minute", "hour", "hour", "day"]);
});

test("limits are said with what they are about; figures are the versions' own", () => {
  assert.equal(plain(limitSaid("error_rate_max", 0.01)), "Error rate at most 1 %");
  assert.equal(plain(limitSaid("accuracy_min", 0.9)), "Accuracy at least 90 %");
  assert.equal(plain(limitSaid("latency_p95_max_ms", 120)), "Latency p95 at most 120 ms");
  assert.equal(plain(limitSaid("latency_p95_ratio_max", 1.5)), "Latency p95 at most 1.5 times the baseline's");
  assert.equal(plain(limitSaid("error_rate_increase_max", 0.02)), "Error rate at most 2 % above the baseline's");
  assert.equal(plain(limitSaid("metrics.ctr.decrease_max", 0.05)), "ctr at most 5 % below the baseline's");
  assert.equal(plain(limitSaid("metrics.ctr.min", 0.3)), "ctr at least 0.3");
  assert.equal(plain(limitSaid("something_new_max", 3)), "something new max 3");
  // The router says latencies of a ratio in milliseconds.
  assert.equal(plain(criterionValue("latency_p95_ratio_max", 6.45)), "6.45 ms");
  assert.equal(plain(criterionValue("error_rate_increase_max", 0.01)), "1 %");
  assert.equal(plain(criterionValue("metrics.ctr.decrease_max", 0.3)), "0.3");
});

test("the boundary is where the version's own figure may not pass", () => {
  assert.equal(boundary("latency_p95_ratio_max", 2, 13), 26);
  assert.equal(boundary("error_rate_increase_max", 0.02, 0.01), 0.03);
  assert.equal(boundary("accuracy_decrease_max", 0.25, 1), 0.75);
  assert.equal(boundary("metrics.ctr.decrease_max", 0.5, 8), 4);
  assert.equal(boundary("metrics.loss.decrease_max", 0.5, -8), -12);
  assert.equal(boundary("error_rate_max", 0.01, 0.5), 0.01);
  assert.ok(comparesWithBaseline("latency_p95_ratio_max") && !comparesWithBaseline("latency_p95_max_ms"));
});

test("intervals say which end is not known", () => {
  assert.equal(plain(interval(0.01, 0.05, percent)), "1 % to 5 %");
  assert.equal(plain(interval(7, 1e300, milliseconds)), "7 ms or more");
  assert.equal(plain(interval(-1e300, 7, milliseconds)), "7 ms or less");
  assert.equal(interval(-1e300, 1e300, milliseconds), "not known yet");
  assert.ok(known(0) && known(-1e9) && !known(1e300) && !known("Infinity" as unknown as number));
});

test("a job may be paused or taken up again, and cancelled, until it ends; what did not end well may be tried again", () => {
  assert.deepEqual(deedsOf({ status: "running", paused: false }), ["pause", "cancel"]);
  assert.deepEqual(deedsOf({ status: "pending", paused: true }), ["resume", "cancel"]);
  for (const status of ["failed", "cancelled"]) assert.deepEqual(deedsOf({ status, paused: false }), ["retry"]);
  assert.deepEqual(deedsOf({ status: "completed", paused: false }), []);
  assert.equal(stateOf({ status: "pending", paused: true }), "paused");
  assert.equal(stateOf({ status: "cancelled", paused: true }), "cancelled");
});

test("usage is added up by team, the dearest first", () => {
  const entry = (team_name: string, model_name: string, request_count: number, cost: number) => ({
    team_name, model_name, version: "v1.0.0", request_count, prediction_count: 2 * request_count, serving_seconds: 1,
    compute_seconds: 1, gpu_seconds: 0, stored_gb_hours: 0, cost,
  });
  const totals = byTeam([entry("a", "m", 10, 1), entry("b", "m", 1, 5), entry("a", "n", 20, 2), entry("a", "m", 5, 0), entry("a", "", 0, 0)]);
  assert.deepEqual(totals.map((one) => [one.team_name, one.models, one.request_count, one.prediction_count, one.cost]),
    [["b", 1, 1, 2, 5], ["a", 2, 35, 70, 3]]);
});
