// An A/B test: what each version did, how it differs from the control, what can be concluded.
import { useState } from "preact/hooks";
import { path, send, verb } from "../api/client.ts";
import type { AbTest } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { interval } from "../format/criteria.ts";
import { count, milliseconds, percent, short } from "../format/numbers.ts";
import { said } from "../traffic/shares.ts";
import { Badge, Facts, Failure, Moment, Reading } from "./basics.tsx";
import { Confirm } from "./dialog.tsx";
import { Interval } from "./interval.tsx";
import { Table } from "./table.tsx";

type Comparison = AbTest["results"]["comparisons"][number];

/** A figure of a metric with its unit. */
function figure(metric: string, value: number): string {
  if (metric === "latency") return milliseconds(value);
  return metric === "error_rate" || metric === "accuracy" ? percent(value) : short(value);
}

function difference(metric: string, value: number): string {
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${figure(metric, Math.abs(value))}`;
}

export function AbTestPart(props: { model: string; name: string; onChange: () => void }) {
  const at = path("models", props.model, "ab-tests", props.name);
  const test = useGet<AbTest>(at, 5000);
  const [deed, setDeed] = useState<"stop" | "conclude">();
  if (test.value === undefined) return test.error ? <Failure error={test.error} what="The test cannot be read" /> : <Reading />;
  const one = test.value;
  const results = one.results;
  const sequential = results?.basis !== "fixed_horizon";
  const ends = (row: Comparison) => (sequential ? [row.sequential_low, row.sequential_high] : [row.difference_low, row.difference_high]);
  return (
    <div class="card-frame">
      <Failure error={test.error} what="The test cannot be read" />
      <p><Badge word={one.status} /> <strong>{one.name}</strong>: {said(one.versions)}</p>
      {results?.conclusion ? <p class={`notice ${results.winner ? "good" : ""}`}>{results.conclusion}</p> : null}
      {results?.sample_ratio_mismatch ? (
        <p class="notice bad">The versions' shares of requests are not those of the test, so nothing can be concluded: something loses or moves requests.</p>
      ) : null}
      <Facts facts={[
        ["Why", one.status_reason],
        ["Began", <><Moment at={one.start_time} />{one.created_by ? ` by ${one.created_by}` : ""}</>],
        [one.status === "running" ? "Ends" : "Ended", <Moment at={one.end_time} />],
        ["Users told apart by", one.sticky_key_header],
        ["At the end", one.auto_promote ? "a significant winner gets all traffic" : "the shares before the test come back"],
        ["Ends at once above", one.rollback_on_error_rate > 0 ? `an error rate of ${percent(one.rollback_on_error_rate)}` : ""],
      ]} />
      {results && results.arms.length > 0 ? (
        <Table caption="What each version did" rows={results.arms} id={(arm) => arm.version} columns={[
          { head: "Version", cell: (arm) => <>{arm.version}{arm.version === results.control ? " (control)" : ""}</> },
          { head: "Requests", number: true, cell: (arm) => count(arm.request_count) },
          { head: "Errors", number: true, cell: (arm) => percent(arm.error_rate) },
          { head: "Latency, mean", number: true, cell: (arm) => milliseconds(arm.latency_avg_ms) },
          { head: "Latency p95", number: true, cell: (arm) => milliseconds(arm.latency_p95_ms) },
          ...[...new Set(results.arms.flatMap((arm) => Object.keys(arm.outcomes)))].map((metric) => ({
            head: metric, number: true,
            cell: (arm: (typeof results.arms)[number]) => (arm.outcomes[metric] === undefined ? "–" : `${figure(metric, arm.outcomes[metric])} of ${count(arm.outcome_counts[metric])}`),
          })),
        ]} />
      ) : null}
      {results && results.comparisons.length > 0 ? (
        <>
          <h3>Against the control</h3>
          <Table caption="Against the control" rows={results.comparisons} id={(row) => `${row.metric} ${row.version}`} columns={[
            { head: "Metric", cell: (row) => `${row.metric.replaceAll("_", " ")}, ${row.version}` },
            { head: "Verdict", cell: (row) => <Badge word={row.verdict} /> },
            { head: "Version", number: true, cell: (row) => figure(row.metric, row.version_value) },
            { head: "Control", number: true, cell: (row) => figure(row.metric, row.control_value) },
            {
              head: sequential ? "Difference, right at every moment" : "Difference, 95 %",
              cell: (row) => {
                const [low = 0, high = 0] = ends(row);
                return <Interval low={low} high={high} measured={row.version_value - row.control_value} limit={0}
                  text={interval(low, high, (value) => difference(row.metric, value))} />;
              },
            },
            { head: "p, corrected", number: true, cell: (row) => (row.verdict === "waiting" ? "–" : short(row.p_value_adjusted)) },
            { head: "Samples", number: true, cell: (row) => `${count(row.version_samples)} and ${count(row.control_samples)}` },
          ]} />
        </>
      ) : null}
      {one.status === "running" ? (
        <div class="buttons">
          <button type="button" onClick={() => setDeed("conclude")}>Conclude</button>
          <button type="button" class="danger" onClick={() => setDeed("stop")}>Stop</button>
        </div>
      ) : null}
      {deed ? (
        <Confirm title={`${deed === "stop" ? "Stop" : "Conclude"} the test`} action={deed === "stop" ? "Stop" : "Conclude"} danger={deed === "stop"}
          reason="Why, for the history" onClose={() => setDeed(undefined)}
          onDo={async (reason) => {
            await send("POST", verb(at, deed), { etag: one.etag, reason });
            test.again();
            props.onChange();
          }}>
          <p>{deed === "stop" ? "It ends without a conclusion, and the shares before it come back." : "It ends as if its time were over."}</p>
        </Confirm>
      ) : null}
    </div>
  );
}
