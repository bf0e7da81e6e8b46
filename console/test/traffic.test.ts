import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, candidates, compareVersions, lines, problem, said } from "../src/traffic/shares.ts";

test("a plan shows every version that has a share before or after, what gains first", () => {
  assert.deepEqual(lines({ "v1.0.0": 100 }, { "v1.0.0": 60, "v1.1.0": 40 }), [
    { version: "v1.1.0", before: 0, after: 40, difference: 40 },
    { version: "v1.0.0", before: 100, after: 60, difference: -40 },
  ]);
  assert.deepEqual(lines({ "v1.0.0": 0 }, {}), []);
});

test("what a plan takes from some it gives to others", () => {
  const sum = lines({ a: 50, b: 30, c: 20 }, { a: 10, d: 90 }).reduce((total, line) => total + line.difference, 0);
  assert.equal(sum, 0);
});

test("typed shares are whole numbers that add up to 100", () => {
  assert.equal(problem({ "v1.0.0": "60", "v1.1.0": "40" }), "");
  assert.equal(problem({ "v1.0.0": "100", "v1.1.0": "" }), "");
  assert.match(problem({ "v1.0.0": "60" }), /add up to 60; 40 are missing/);
  assert.match(problem({ "v1.0.0": "60", "v1.1.0": "50" }), /110; 10 are too many/);
  assert.match(problem({ "v1.0.0": "99.5", "v1.1.0": "0.5" }), /share of v1.0.0 is a whole number .* not “99.5”/);
  assert.match(problem({ "v1.0.0": "-1", "v1.1.0": "101" }), /share of v1.0.0 is a whole number/);
  assert.match(problem({ "v1.0.0": "101" }), /at most 100, not 101/);
});

test("the API is asked for the shares that are above 0", () => {
  assert.deepEqual(asked({ "v1.0.0": "100", "v1.1.0": "0", "v2.0.0": "" }), { "v1.0.0": 100 });
});

test("versions that are ready or have a share may have one, in their order", () => {
  assert.deepEqual(candidates(["v1.10.0", "v1.9.0"], { "v2.0.0": 10, "v1.9.0": 90 }), ["v1.9.0", "v1.10.0", "v2.0.0"]);
});

test("shares are said with the greatest first", () => {
  assert.equal(said({ "v1.0.0": 10, "v1.1.0": 90 }).replaceAll("\u202f", " "), "v1.1.0 90 %, v1.0.0 10 %");
  assert.equal(said({}), "nothing");
});

test("versions have the order of semantic versions", () => {
  const ordered = ["v1.0.0-alpha", "v1.0.0-alpha.2", "v1.0.0-alpha.10", "v1.0.0", "v1.2.0", "v1.10.0"];
  assert.deepEqual([...ordered].reverse().sort(compareVersions), ordered);
});
