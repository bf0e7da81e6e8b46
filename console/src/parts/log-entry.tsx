// One entry of the prediction log, with what became of it.
import { path } from "../api/client.ts";
import type { InferenceLog, Outcome, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { pretty } from "../format/log.ts";
import { count, milliseconds, short } from "../format/numbers.ts";
import { exact } from "../format/times.ts";
import { Badge, Facts, Failure, Reading } from "./basics.tsx";
import { Dialog } from "./dialog.tsx";
import { Table } from "./table.tsx";

export function LogEntryDialog({ entry, onClose }: { entry: InferenceLog; onClose: () => void }) {
  const { rows = "", code = "", kind = "", team = "", trace_id: trace = "", ...others } = entry.metadata;
  const output = pretty(entry.output);
  return (
    <Dialog title="One request" onClose={onClose}>
      <Facts facts={[
        ["Request", <code class="digest">{entry.request_id}</code>],
        ["Answered", exact(entry.timestamp)],
        ["Model", `${entry.model_name} ${entry.version || "no version chosen"}`],
        ["Deployment", entry.deployment_name],
        ["Came to", entry.error_message ? <><Badge word="failed" /> <code>{entry.error_message}</code></> : <Badge word="answered" tone="good" />],
        ["Took", milliseconds(entry.latency_ms)],
        ["Rows", rows],
        ["Asked by", entry.user_id],
        ["Team", team],
        ["Was", kind.replaceAll("_", " ")],
        ["Status", code === "0" ? "" : code],
        ["Trace", trace ? <code class="digest">{trace}</code> : ""],
        ["Input, hashed", entry.input_hash ? <code class="digest">{entry.input_hash}</code> : ""],
        ...Object.entries(others).map(([name, value]) => [name, value] as const),
      ]} />
      <h3>Output</h3>
      {output ? <pre tabIndex={0} aria-label="Output" class="json">{output}</pre> : <p class="quiet">It is not kept: the logging policy says so, or there was none.</p>}
      <h3>What became of it</h3>
      <Outcomes request={entry.request_id} />
      <div class="buttons"><button type="button" class="primary" onClick={onClose}>Close</button></div>
    </Dialog>
  );
}

function Outcomes({ request }: { request: string }) {
  const outcomes = useGet<Page<"outcomes", Outcome>>(path("outcomes", request));
  if (outcomes.value === undefined) return outcomes.error ? <Failure error={outcomes.error} what="Outcomes cannot be read" /> : <Reading />;
  if (outcomes.value.outcomes.length === 0) return <p class="quiet">No outcome was reported of it.</p>;
  return (
    <Table caption="Outcomes" rows={outcomes.value.outcomes} id={(one) => String(one.instance_index)} columns={[
      { head: "Row", cell: (one) => count(one.instance_index) },
      { head: "Was true", cell: (one) => pretty(one.ground_truth) || "–" },
      { head: "Metrics", cell: (one) => Object.entries(one.metrics).map(([name, value]) => `${name} ${short(value)}`).join(", ") || "–" },
    ]} />
  );
}
