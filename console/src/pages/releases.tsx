// Canaries and A/B tests of a model: how far they are, by what evidence, and what can be done about them.
import { useState } from "preact/hooks";
import { path, withQuery } from "../api/client.ts";
import type { AbTest, Canary, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { AbTestPart } from "../parts/ab-test.tsx";
import { Badge, Empty, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { CanaryPart } from "../parts/canary.tsx";
import { Shadows } from "../parts/shadow-reports.tsx";
import { More, Table } from "../parts/table.tsx";

const PERIOD_MS = 3000;
const SLOW_MS = 30_000;

export function ReleasesPage({ model }: { model: string }) {
  return (
    <>
      <Canaries model={model} />
      <AbTests model={model} />
      <Shadows model={model} />
    </>
  );
}

function Canaries({ model }: { model: string }) {
  const [many, setMany] = useState(10);
  const [busy, setBusy] = useState(true);
  const canaries = useGet<Page<"canaries", Canary>>(
    withQuery(`${path("models", model)}/canaries`, { page_size: many }), busy ? PERIOD_MS : SLOW_MS,
  );
  const all = canaries.value?.canaries ?? [];
  const [latest, ...older] = all;
  const runs = latest !== undefined && (latest.status === "running" || latest.status === "paused");
  if (canaries.value !== undefined && runs !== busy) setBusy(runs);
  return (
    <Section title="Canary">
      <Failure error={canaries.error} what="Canaries cannot be read" />
      {canaries.value === undefined ? (canaries.error ? null : <Reading />) : latest === undefined ? (
        <Empty command={`infermesh canary start ${model} DEPLOYMENT --stage 10%/30m --stage 50%/1h --error-rate-max 1%`}>
          It has had no canary yet. The command lets a deployed version take over in stages, and takes it back where it breaks a limit.
        </Empty>
      ) : (
        <>
          <CanaryPart canary={latest} onChange={canaries.again} />
          {older.length > 0 ? (
            <>
              <h3>Before that</h3>
              <Table caption="Earlier canaries" rows={older} id={(one) => one.canary_id} columns={[
                { head: "Version", cell: (one) => one.version },
                { head: "Instead of", cell: (one) => one.baseline_version },
                { head: "Status", cell: (one) => <Badge word={one.status} /> },
                { head: "Why", cell: (one) => one.status_reason || "–" },
                { head: "Began", cell: (one) => <Moment at={one.created_at} /> },
                { head: "Ended", cell: (one) => <Moment at={one.ended_at} /> },
              ]} />
            </>
          ) : null}
          <More there={canaries.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 20))} />
        </>
      )}
    </Section>
  );
}

function AbTests({ model }: { model: string }) {
  const [many, setMany] = useState(10);
  const tests = useGet<Page<"ab_tests", AbTest>>(withQuery(`${path("models", model)}/ab-tests`, { page_size: many }), SLOW_MS);
  const [chosen, setChosen] = useState("");
  const all = tests.value?.ab_tests ?? [];
  const shown = all.find((one) => one.name === chosen) ?? all[0];
  return (
    <Section title="A/B tests">
      <Failure error={tests.error} what="A/B tests cannot be read" />
      {tests.value === undefined ? (tests.error ? null : <Reading />) : shown === undefined ? (
        <Empty command={`infermesh ab-test create ${model} NAME v1.0.0=50 v1.1.0=50 --duration 7d --metric accuracy --metric latency`}>
          It has had no A/B test yet. The command gives each user one of several versions, and says at the end which was better.
        </Empty>
      ) : (
        <>
          {all.length > 1 ? (
            <label class="inline">Test{" "}
              <select value={shown.name} onChange={(event) => setChosen(event.currentTarget.value)}>
                {all.map((one) => <option key={one.name} value={one.name}>{one.name} ({one.status})</option>)}
              </select>
            </label>
          ) : null}
          <AbTestPart key={shown.name} model={model} name={shown.name} onChange={tests.again} />
          <More there={tests.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 20))} />
        </>
      )}
    </Section>
  );
}
