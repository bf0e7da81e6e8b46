// A canary: its stages, how it stands against each limit, what can be done.
import { useState } from "preact/hooks";
import { path, send, verb } from "../api/client.ts";
import type { Canary, CriterionResult } from "../api/types.ts";
import { boundary, comparesWithBaseline, criterionValue, interval, limitSaid } from "../format/criteria.ts";
import { count, duration } from "../format/numbers.ts";
import { Badge, Facts, Moment, useNow } from "./basics.tsx";
import { Confirm } from "./dialog.tsx";
import { Interval } from "./interval.tsx";
import { Table } from "./table.tsx";

const DEEDS = {
  pause: ["Pause", "It stays at its stage, and its limits are still watched.", false],
  resume: ["Resume", "Its current stage begins anew.", false],
  promote: ["Promote", "It gets all traffic now; the stages that are left are skipped.", false],
  abort: ["Abort", "The version that it was to replace gets all traffic back.", true],
} as const;
type Deed = keyof typeof DEEDS;

export function CanaryPart({ canary, onChange }: { canary: Canary; onChange: () => void }) {
  const [deed, setDeed] = useState<Deed>();
  const runs = canary.status === "running" || canary.status === "paused";
  const deeds: Deed[] = runs ? [canary.status === "running" ? "pause" : "resume", "promote", "abort"] : [];
  const asked = deed === undefined ? undefined : DEEDS[deed];
  return (
    <div class="card-frame">
      <p>
        <Badge word={canary.status} /> <strong>{canary.version}</strong> instead of <strong>{canary.baseline_version}</strong>,
        now with {canary.percent}{"\u202f"}% of the traffic
      </p>
      <Facts facts={[
        ["Why", canary.status_reason],
        ["Deployment", canary.deployment_name],
        ["Began", <><Moment at={canary.created_at} />{canary.created_by ? ` by ${canary.created_by}` : ""}</>],
        ["Ended", canary.ended_at ? <Moment at={canary.ended_at} /> : ""],
        ["This stage ends", canary.stage_ends_at ? <Moment at={canary.stage_ends_at} /> : ""],
        ["Held since", canary.held_since ? <><Moment at={canary.held_since} />; rolled back <Moment at={canary.hold_ends_at} /> if the evidence still decides nothing</> : ""],
      ]} />
      {canary.evidence_error ? <p class="notice warn">Nothing is judged at the moment: {canary.evidence_error}</p> : null}
      <Stages canary={canary} />
      {canary.results.length > 0 ? <Results results={canary.results} caption={runs ? "The evidence of this stage" : "The evidence of the last stage"} /> : null}
      {deeds.length > 0 ? (
        <div class="buttons">
          {deeds.map((one) => (
            <button key={one} type="button" class={DEEDS[one][2] ? "danger" : ""} onClick={() => setDeed(one)}>{DEEDS[one][0]}</button>
          ))}
        </div>
      ) : null}
      {deed && asked ? (
        <Confirm title={`${asked[0]} the canary`} action={asked[0]} danger={asked[2]} reason="Why, for the history" onClose={() => setDeed(undefined)}
          onDo={async (reason) => {
            await send("POST", verb(`${path("models", canary.model_name)}/canary`, deed), { etag: canary.etag, reason });
            onChange();
          }}>
          <p>{asked[1]}</p>
        </Confirm>
      ) : null}
    </div>
  );
}

function Stages({ canary }: { canary: Canary }) {
  const now = useNow();
  const ended = new Map(canary.history.map((record) => [record.stage, record]));
  const ongoing = canary.status === "running" || canary.status === "paused";
  const stages = (canary.config?.stages ?? []).map((stage, place) => ({ ...stage, place }));
  const state = (place: number) => {
    if (ongoing && place === canary.stage) return canary.held_since ? "held" : canary.status;
    return ended.get(place)?.outcome ?? (place < canary.stage ? "passed" : "to come");
  };
  const came = (place: number) => {
    const record = ended.get(place);
    if (ongoing && place === canary.stage) return duration((now - Date.parse(canary.stage_started_at)) / 1000);
    return record ? duration((Date.parse(record.ended_at) - Date.parse(record.started_at)) / 1000) : "–";
  };
  return (
    <Table caption="Stages" rows={stages} id={(stage) => String(stage.place)} columns={[
      { head: "Stage", cell: (stage) => `${stage.place + 1} of ${stages.length}` },
      { head: "Share", number: true, cell: (stage) => `${stage.percent}\u202f%` },
      { head: "Lasts at least", number: true, cell: (stage) => duration(stage.duration_minutes * 60) },
      { head: "Lasted", number: true, cell: (stage) => came(stage.place) },
      { head: "State", cell: (stage) => <Badge word={state(stage.place)} tone={state(stage.place) === "held" ? "warn" : undefined} /> },
    ]} />
  );
}

function Results(props: { results: readonly CriterionResult[]; caption: string }) {
  const rows = props.results;
  return (
    <>
      <h3>{props.caption}</h3>
      <Table caption={props.caption} rows={rows} id={(one) => one.criterion} columns={[
        { head: "Limit", cell: (one) => limitSaid(one.criterion, one.limit) },
        { head: "Verdict", cell: (one) => <Badge word={one.verdict} /> },
        { head: "Measured", number: true, cell: (one) => (one.request_count > 0 ? criterionValue(one.criterion, one.measured) : "–") },
        {
          head: "True value is in", cell: (one) => (one.request_count > 0
            ? <Interval low={one.low} high={one.high} measured={one.measured} limit={boundary(one.criterion, one.limit, one.baseline)}
                text={interval(one.low, one.high, (value) => criterionValue(one.criterion, value))} />
            : "–"),
        },
        { head: "Baseline", number: true, cell: (one) => (one.request_count > 0 && comparesWithBaseline(one.criterion) ? criterionValue(one.criterion, one.baseline) : "–") },
        { head: "Requests", number: true, cell: (one) => count(one.request_count) },
      ]} />
      <p class="small quiet">The intervals hold at every moment of the rollout together, so looking often misleads nobody.</p>
    </>
  );
}
