// The prediction log of a model, searched.
import { useState } from "preact/hooks";
import { get, path, withQuery } from "../api/client.ts";
import type { InferenceLog, LoggingPolicy, ModelVersion, Page } from "../api/types.ts";
import { useGet, useRead } from "../api/watching.ts";
import { NOTHING, problem, queryOf, type Wish } from "../format/log.ts";
import { milliseconds, percent } from "../format/numbers.ts";
import { Badge, Choice, Empty, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { LogEntryDialog } from "../parts/log-entry.tsx";
import { More, Table } from "../parts/table.tsx";

const WINDOWS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"], ["", "From … to …"]] as const;
const AT_ONCE = 50;

export function LogPage({ model, request }: { model: string; request: string }) {
  const [wish, setWish] = useState<Wish>({ ...NOTHING, request });
  const [asked, setAsked] = useState(() => ({ query: queryOf({ ...NOTHING, request }, Date.now()), turn: 0 }));
  const [many, setMany] = useState(AT_ONCE);
  const [shown, setShown] = useState<InferenceLog>();
  const at = `${path("models", model)}/inference-logs`;
  const found = useRead(`${at} ${JSON.stringify(asked)} ${many}`, 0, (signal) =>
    get<Page<"inference_logs", InferenceLog>>(at, signal, { ...asked.query, page_size: many }));
  const wrong = problem(wish);
  const search = (event: Event) => {
    event.preventDefault();
    setMany(AT_ONCE);
    setAsked({ query: queryOf(wish, Date.now()), turn: asked.turn + 1 });
  };
  const rows = found.value?.inference_logs;
  return (
    <>
      <Policy model={model} />
      <form onSubmit={search} aria-label="Search the prediction log">
        <Filters model={model} wish={wish} onChange={(part) => setWish({ ...wish, ...part })} />
        <p class={wrong ? "small" : "unseen"} role="status" aria-live="polite">{wrong}</p>
        <div class="buttons"><button type="submit" class="primary" disabled={wrong !== ""}>Search</button></div>
      </form>
      <Section title="Found">
        <Failure error={found.error} what="The prediction log cannot be searched" />
        {rows === undefined ? (found.error ? null : <Reading />) : rows.length === 0 ? (
          <Empty command={`infermesh logs list ${model} --errors --since 7d`}>No logged request is like that.</Empty>
        ) : (
          <>
            <p class="unseen" role="status" aria-live="polite">{rows.length} requests found</p>
            <Table caption="Logged requests, newest first" rows={rows} id={(one) => `${one.request_id} ${one.timestamp} ${one.metadata["kind"] ?? ""}`} columns={[
              { head: "Request", cell: (one) => (
                <button type="button" class="link digest" onClick={() => setShown(one)}>{one.request_id || "without an id"}</button>
              ) },
              { head: "Answered", cell: (one) => <Moment at={one.timestamp} /> },
              { head: "Version", cell: (one) => one.version || "none" },
              { head: "Came to", cell: (one) => (one.error_message ? <><Badge word="failed" /> <code>{one.error_message}</code></> : <Badge word="answered" tone="good" />) },
              { head: "Took", number: true, cell: (one) => milliseconds(one.latency_ms) },
              { head: "Rows", number: true, cell: (one) => one.metadata["rows"] ?? "–" },
              { head: "Asked by", cell: (one) => one.user_id || "–" },
            ]} />
            <More there={found.value?.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 100))} />
          </>
        )}
      </Section>
      {shown ? <LogEntryDialog entry={shown} onClose={() => setShown(undefined)} /> : null}
    </>
  );
}

function Filters(props: { model: string; wish: Wish; onChange: (part: Partial<Wish>) => void }) {
  const { wish, onChange } = props;
  const versions = useGet<Page<"versions", ModelVersion>>(withQuery(`${path("models", props.model)}/versions`, { page_size: 100 }));
  return (
    <>
      <Choice label="Time" options={WINDOWS} value={wish.windowS} onChange={(windowS) => onChange({ windowS })} />
      <Choice label="Requests" options={[["", "All"], ["failed", "Failed only"]]} value={wish.failedOnly ? "failed" : ""}
        onChange={(value) => onChange({ failedOnly: value !== "" })} />
      <div class="filters">
        {wish.windowS === "" ? (
          <>
            <label class="field">From
              <input type="datetime-local" step={1} value={wish.from} onInput={(event) => onChange({ from: event.currentTarget.value })} />
            </label>
            <label class="field">To, or now
              <input type="datetime-local" step={1} value={wish.to} onInput={(event) => onChange({ to: event.currentTarget.value })} />
            </label>
          </>
        ) : null}
        <label class="field">Version
          <select value={wish.version} onChange={(event) => onChange({ version: event.currentTarget.value })}>
            <option value="">every version</option>
            {(versions.value?.versions ?? []).map((one) => <option key={one.version} value={one.version}>{one.version}</option>)}
          </select>
        </label>
        <label class="field">Asked by
          <input type="text" maxLength={1024} value={wish.user} onInput={(event) => onChange({ user: event.currentTarget.value })} />
        </label>
        <label class="field">Request id
          <input type="text" maxLength={1024} value={wish.request} onInput={(event) => onChange({ request: event.currentTarget.value })} />
        </label>
      </div>
    </>
  );
}

/** Why a request may not be there. */
function Policy({ model }: { model: string }) {
  const policy = useGet<LoggingPolicy>(`${path("models", model)}/logging-policy`).value;
  if (policy === undefined) return null;
  return (
    <p class="quiet">
      Of successful requests {percent(policy.sample_rate)} are logged, of failed ones all,
      {policy.log_output ? " with their outputs" : " without outputs"}; for 30 days.
    </p>
  );
}
