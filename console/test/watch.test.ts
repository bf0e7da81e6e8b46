import assert from "node:assert/strict";
import { test } from "node:test";
import {
  anomalySaid, effect, effectSaid, histogram, ofCategories, measuredSaid, outline, probability, spaced, type Bin,
} from "../src/format/drift.ts";
import { NOTHING, pretty, problem, queryOf } from "../src/format/log.ts";
import { conditionSaid, silencedSaid, targetOf } from "../src/format/rules.ts";
import { problem as silenceProblem, silenceOf } from "../src/format/silences.ts";

const plain = (text: string) => text.replaceAll("\u202f", " ");
const bin = (low: number, high: number, baseline_share: number, window_share: number): Bin =>
  ({ label: `[${low}, ${high})`, baseline_share, window_share, low, high });
const close = (one: number, other: number) => assert.ok(Math.abs(one - other) < 1e-9, `${one} is not ${other}`);

test("bins lie where their values are, and their areas are their shares", () => {
  const drawn = histogram([
    { label: "(missing)", baseline_share: 0.1, window_share: 0 }, bin(-6, 2, 0.2, 0.4), bin(2, 6, 0.4, 0.4), bin(6, 8, 0.3, 0.2),
  ]);
  assert.ok(drawn);
  assert.deepEqual(drawn.ticks.map((tick) => tick.value), [-6, 2, 6, 8]);
  // The inner bin is 4 wide, and so are those at the ends at the most.
  close(drawn.bars[0]!.to, 0.4);
  close(drawn.bars.at(-1)!.to, 1);
  assert.deepEqual(drawn.ticks.map((tick) => tick.cut), [true, false, false, false]);
  const area = (place: number, side: "baseline" | "window") => drawn.bars[place]![side] * (drawn.bars[place]!.to - drawn.bars[place]!.from);
  close(area(0, "window") / area(0, "baseline"), 2);
  close(area(2, "baseline") / area(2, "window"), 1.5);
  assert.equal(Math.max(...drawn.bars.flatMap((bar) => [bar.baseline, bar.window])), 1);
});

test("a stray value presses nothing flat, and one value alone is still seen", () => {
  const drawn = histogram([bin(0, 1, 0.1, 0.1), bin(1, 2, 0.4, 0.4), bin(2, 2, 0.3, 0.3), bin(2, 1e9, 0.2, 0.2)]);
  assert.ok(drawn);
  assert.ok(drawn.bars.every((bar) => bar.to - bar.from > 0.02));
  assert.ok(drawn.bars[1]!.to - drawn.bars[1]!.from > 0.3);
  assert.equal(drawn.ticks.at(-1)!.value, 1e9);
  assert.ok(drawn.ticks.at(-1)!.cut);
});

test("a first bin without values is not drawn", () => {
  const drawn = histogram([bin(0, 0, 0, 0), bin(0, 5, 1, 0.5), bin(5, 16, 0, 0.5)]);
  assert.deepEqual(drawn?.bars.map((bar) => bar.bin.low), [0, 5]);
});

test("what is of one value only is one bar", () => {
  const drawn = histogram([bin(3, 3, 0, 0), bin(3, 3, 1, 1)]);
  assert.deepEqual(drawn?.bars.map((bar) => [bar.from, bar.to, bar.baseline, bar.window]), [[0, 1, 1, 1]]);
});

test("categories are no histogram", () => {
  assert.equal(histogram([{ label: "a", baseline_share: 1, window_share: 1 }]), undefined);
  assert.equal(histogram([{ label: "(missing)", baseline_share: 1, window_share: 1 }]), undefined);
  assert.equal(histogram([]), undefined);
});

test("an outline goes from the axis over every bar back to the axis", () => {
  const drawn = histogram([bin(0, 1, 0.25, 0.5), bin(1, 2, 0.75, 0.5)])!;
  assert.equal(outline(drawn.bars, "baseline", 200), "M0.0 200V133.3H500.0V0.0H1000.0V200");
  assert.equal(outline(drawn.bars, "window", 200), "M0.0 200V66.7H500.0V66.7H1000.0V200");
});

test("ticks leave each other room; the ends stay", () => {
  const ticks = [0, 0.01, 0.3, 0.35, 0.95, 1].map((at) => ({ at }));
  assert.deepEqual(spaced(ticks, 0.1).map((tick) => tick.at), [0, 0.3, 1]);
});

test("a feature's kind is known by its bins, and without them by its statistics", () => {
  const feature = (more: object) => ({
    ks_statistic: 0, psi: 0, chi_squared: 0, missing_fraction: 0, baseline_missing_fraction: 0, bins: [] as Bin[], ...more,
  });
  const numbers = feature({ ks_statistic: 0.31, psi: 0.5 });
  const words = feature({ psi: 0.2, chi_squared: 12.3 });
  assert.ok(!ofCategories(numbers) && ofCategories(words));
  assert.ok(ofCategories(feature({ bins: [{ label: "a", baseline_share: 1, window_share: 1 }] })));
  assert.ok(!ofCategories(feature({ bins: [bin(0, 1, 1, 1)] })));
  assert.deepEqual([effect(numbers), effect(words)], [0.31, 0.2]);
  assert.deepEqual([effectSaid(numbers), effectSaid(words)], ["KS 0.310", "PSI 0.200"]);
  assert.equal(measuredSaid(numbers), "Kolmogorov–Smirnov 0.310, stability index 0.500");
  assert.equal(measuredSaid(words), "Chi-squared 12.3, stability index 0.200");
});

test("probabilities are said with what matters of them", () => {
  assert.deepEqual([1, 0.0432, 0.0001234, 3.2e-9, 0, Number.NaN].map(probability), ["1", "0.043", "0.00012", "3e-9", "<1e-99", "–"]);
});

test("anomalies are said in words, new ones too", () => {
  assert.match(anomalySaid("joint_drift"), /whole rows/);
  assert.equal(anomalySaid("something_new"), "something new");
});

test("rules say when they fire", () => {
  const threshold = { metric: "error_rate", comparison: ">", threshold: 0.05, window_s: 300, for_s: 60, min_requests: 100 };
  assert.equal(plain(conditionSaid({ threshold })), "error rate above 5 % over 5 min, for 1 min, from 100 requests on");
  assert.equal(
    plain(conditionSaid({ threshold: { ...threshold, metric: "latency_p95_ms", comparison: ">=", threshold: 200, for_s: 0, min_requests: 0 } })),
    "latency p95 at or above 200 ms over 5 min",
  );
  assert.equal(plain(conditionSaid({ threshold: { ...threshold, metric: "cpu_percent", threshold: 90, for_s: 0, min_requests: 0 } })), "cpu percent above 90 % over 5 min");
  assert.equal(conditionSaid({ drift: { min_severity: "high", features: ["age"] } }), "drift of age is high");
  assert.equal(conditionSaid({ drift: { min_severity: "moderate", features: [] } }), "drift is moderate or high");
  const burn_rate = { objective: 0.999, indicator: "success", latency_ms: 0, long_window_s: 3600, short_window_s: 300, burn_rate: 14.4 };
  assert.equal(plain(conditionSaid({ burn_rate })), "the error budget of 99.9 % success burns 14.4 times as fast as it may, over 1 h and 5 min");
  assert.match(plain(conditionSaid({ burn_rate: { ...burn_rate, indicator: "latency", latency_ms: 100 } })), /99.9 % answers within 100 ms/);
  assert.equal(conditionSaid({ event: { events: ["rolled_back", "canary_held"] } }), "rolled back or canary held");
});

test("channels say where they go without their secrets", () => {
  assert.deepEqual(targetOf({ slack: { webhook_url: "hooks.slack.com" } }), { kind: "Slack", where: "hooks.slack.com" });
  assert.deepEqual(targetOf({ pager_duty: { routing_key: "" } }), { kind: "PagerDuty", where: "" });
  assert.deepEqual(targetOf({ webhook: { url: "https://a.b/c" } }), { kind: "Webhook", where: "https://a.b/c" });
  assert.deepEqual(targetOf({ email: { addresses: ["a@b.c", "d@e.f"] } }), { kind: "E-mail", where: "a@b.c, d@e.f" });
});

test("a silence is of a rule, a model or both, from now on", () => {
  const now = Date.parse("2026-02-05T10:00:00Z");
  assert.deepEqual(silenceOf({ rule: "errors", model: "", lengthS: 3600, reason: " load test " }, now), {
    rule_name: "errors", model_name: "", reason: "load test", end_time: "2026-02-05T11:00:00.000Z",
  });
  assert.equal(silenceProblem({ rule: "", model: "digits" }), "");
  assert.match(silenceProblem({ rule: "", model: "" }), /Choose a rule, a model/);
  assert.equal(silencedSaid({ rule_name: "errors", model_name: "" }), "rule errors of every model");
  assert.equal(silencedSaid({ rule_name: "", model_name: "digits" }), "every rule of model digits");
});

test("the log is asked for what is typed; a request by its id in all that is kept", () => {
  const now = Date.parse("2026-02-05T10:00:00Z");
  assert.deepEqual(queryOf({ ...NOTHING, version: "v1.0.0", user: " 7 ", failedOnly: true }, now), {
    version: "v1.0.0", request_id: "", user_id: "7", errors_only: "true", start_time: "2026-02-05T09:00:00.000Z", end_time: "",
  });
  assert.equal(queryOf({ ...NOTHING, request: "abc" }, now)["start_time"], "2026-01-06T10:00:00.000Z");
  const between = { ...NOTHING, windowS: "", from: "2026-02-05T08:00:00", to: "2026-02-05T09:00:00" };
  const asked = queryOf(between, now);
  assert.equal(Date.parse(asked["end_time"] ?? "") - Date.parse(asked["start_time"] ?? ""), 3_600_000);
  assert.equal(problem(NOTHING), "");
  assert.equal(problem(between), "");
  assert.equal(problem({ ...between, to: "" }), "");
  assert.match(problem({ ...between, from: "" }), /from when/);
  assert.match(problem({ ...between, to: "2026-02-05T07:00:00" }), /not after/);
});

test("what was not kept is nothing, all else is JSON", () => {
  assert.equal(pretty(undefined), "");
  assert.equal(pretty(null), "");
  assert.equal(pretty(0), "0");
  assert.equal(pretty({ a: 1 }), '{\n  "a": 1\n}');
});
