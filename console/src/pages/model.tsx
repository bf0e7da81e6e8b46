// One model: how it does, its versions, where it runs.
import { useMemo, useState } from "preact/hooks";
import { get, path, withQuery } from "../api/client.ts";
import type { Deployment, MetricPoint, Model, ModelMetrics, ModelVersion, Page } from "../api/types.ts";
import { useGet, useRead, useStream } from "../api/watching.ts";
import { bytes, count, milliseconds, percent, rate } from "../format/numbers.ts";
import { drawn, stepFor } from "../format/series.ts";
import { before } from "../format/times.ts";
import { Badge, Choice, Empty, Facts, Failure, Figure, Moment, Reading, Section } from "../parts/basics.tsx";
import { Chart } from "../parts/chart.tsx";
import { Distribution } from "../parts/distribution.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const PERIOD_MS = 10_000;
const POINTS_MAX = 1000;
const WINDOWS = [["3600", "1 hour"], ["21600", "6 hours"], ["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"]] as const;

export function ModelPage({ model: name }: { model: string }) {
  const model = useGet<Model>(path("models", name), 30_000);
  if (model.value === undefined) return model.error ? <Failure error={model.error} what="The model cannot be read" /> : <Reading />;
  const { value } = model;
  return (
    <>
      <Failure error={model.error} what="The model cannot be read" />
      {value.description ? <p>{value.description}</p> : null}
      <Facts facts={[
        ["Framework", value.framework],
        ["Team", value.team],
        ["Tags", value.tags.join(", ")],
        ["Aliases", Object.entries(value.aliases).map(([alias, version]) => `${alias} → ${version}`).join(", ")],
        ["Shared with", value.shared_with.join(", ")],
        ["Registered", <><Moment at={value.created_at} />{value.created_by ? ` by ${value.created_by}` : ""}</>],
      ]} />
      <Now model={name} />
      <Charts model={name} />
      <Versions model={name} />
      <Deployments model={name} />
      {value.model_card ? <Section title="Model card"><pre class="card" tabIndex={0} aria-label="Model card">{value.model_card}</pre></Section> : null}
    </>
  );
}

/** The last five minutes, as the stream tells them. */
function Now({ model }: { model: string }) {
  const [metrics, setMetrics] = useState<ModelMetrics>();
  const error = useStream<ModelMetrics>(`${path("models", model)}/metrics:watch?window_minutes=5&period_s=5`, setMetrics);
  const figures = metrics?.metrics;
  return (
    <Section title="Last 5 minutes">
      <Failure error={error} what="Metrics cannot be followed" />
      {figures === undefined ? (error ? null : <Reading />) : (
        <>
          <div class="figures">
            <Figure name="Requests" value={rate(figures.throughput_per_sec)} note={`${count(figures.request_count)} in all`} />
            <Figure name="Errors" value={figures.request_count > 0 ? percent(figures.error_rate) : "–"}
              tone={figures.error_rate > 0.01 ? "bad" : ""} note={`${count(figures.error_count)} of them`} />
            <Figure name="Latency p50" value={latency(figures.latency?.p50)} />
            <Figure name="Latency p95" value={latency(figures.latency?.p95)} note="inside the batcher" />
            <Figure name="Latency p99" value={latency(figures.latency?.p99)} />
          </div>
          {figures.request_count === 0 ? (
            <Empty command={`infermesh predict ${model} '{"FEATURE": VALUE}'`}>Nobody asked it for anything in this time.</Empty>
          ) : (
            <div class="beside">
              <Distribution title="Predictions by class" head="Class" shares={figures.prediction_distribution} />
              <Distribution title="Predictions by confidence" head="Confidence" shares={figures.confidence_distribution}
                order={["high", "medium", "low"]} />
            </div>
          )}
        </>
      )}
    </Section>
  );
}

function latency(value: number | undefined): string {
  return (value ?? 0) > 0 ? milliseconds(value) : "–";
}

function Charts({ model }: { model: string }) {
  const [windowS, setWindow] = useState("3600");
  const [version, setVersion] = useState("");
  const versions = useGet<Page<"versions", ModelVersion>>(withQuery(`${path("models", model)}/versions`, { page_size: 100 }));
  const step = stepFor(Number(windowS));
  const points = useRead(`points ${model} ${windowS} ${version}`, 15_000, async (signal) => {
    const now = Date.now();
    const found: MetricPoint[] = [];
    let token = "";
    do {
      const page: Page<"points", MetricPoint> = await get(`${path("models", model)}/metrics/points`, signal, {
        version, start_time: before(now, Number(windowS)), granularity: step, page_size: POINTS_MAX, page_token: token,
      });
      found.push(...page.points);
      token = page.next_page_token;
    } while (token !== "");
    return { found, now: now / 1000 };
  });
  const read = points.value;
  const series = useMemo(
    () => (read ? drawn(read.found, step, read.now - Number(windowS), read.now) : undefined), [read, step, windowS],
  );
  return (
    <Section title="Metrics" side={
      <div class="choices">
        <Choice label="Window" options={WINDOWS} value={windowS} onChange={setWindow} />
        <label class="inline">Version{" "}
          <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
            <option value="">all</option>
            {(versions.value?.versions ?? []).map((one) => <option key={one.version} value={one.version}>{one.version}</option>)}
          </select>
        </label>
      </div>
    }>
      <Failure error={points.error} what="Metrics cannot be read" />
      {series === undefined ? (points.error ? null : <Reading />) : (
        <div class="charts">
          <Drawings series={series} />
        </div>
      )}
    </Section>
  );
}

function Drawings({ series }: { series: ReturnType<typeof drawn> }) {
  const latencies = useMemo(() => [
    { name: "p50", values: series.p50 }, { name: "p95", values: series.p95 }, { name: "p99", values: series.p99 },
  ], [series]);
  const rates = useMemo(() => [{ name: "Requests", values: series.rates }], [series]);
  const errors = useMemo(() => [{ name: "Error rate", values: series.errors }], [series]);
  return (
    <>
      <Chart title="Requests per second" times={series.times} series={rates} said={rate} least={1} />
      <Chart title="Error rate" times={series.times} series={errors} said={percent} least={0.01} />
      <Chart title="Latency" times={series.times} series={latencies} said={milliseconds} least={1} />
    </>
  );
}

function Versions({ model }: { model: string }) {
  const [many, setMany] = useState(20);
  const versions = useGet<Page<"versions", ModelVersion>>(withQuery(`${path("models", model)}/versions`, { page_size: many }), 30_000);
  return (
    <Section title="Versions">
      <Failure error={versions.error} what="Versions cannot be read" />
      {versions.value === undefined ? (versions.error ? null : <Reading />) : (
        <>
          <Table caption="Versions" rows={versions.value.versions} id={(one) => one.version} columns={[
            { head: "Version", cell: (one) => <a href={pathOf("models", model, "versions", one.version)}>{one.version}</a> },
            { head: "Stage", cell: (one) => <Badge word={one.stage} /> },
            { head: "Aliases", cell: (one) => one.aliases.join(", ") || "–" },
            { head: "Framework", cell: (one) => `${one.framework} ${one.framework_version}` },
            { head: "Size", number: true, cell: (one) => bytes(one.model_size_bytes) },
            { head: "Made from", cell: (one) => one.lineage?.parent_version || "–" },
            { head: "Data set", cell: (one) => one.lineage?.dataset || "–" },
            { head: "Registered", cell: (one) => <Moment at={one.created_at} /> },
          ]} />
          <More there={versions.value.next_page_token !== ""} onMore={() => setMany(many + 50)} />
        </>
      )}
    </Section>
  );
}

function Deployments({ model }: { model: string }) {
  const deployments = useGet<Page<"deployments", Deployment>>(withQuery(`${path("models", model)}/deployments`, { page_size: 100 }), PERIOD_MS);
  return (
    <Section title="Deployments">
      <Failure error={deployments.error} what="Deployments cannot be read" />
      {deployments.value === undefined ? (deployments.error ? null : <Reading />) : deployments.value.deployments.length === 0 ? (
        <Empty command={`infermesh deploy ${model} VERSION`}>No version of it is deployed. The command puts one to work.</Empty>
      ) : (
        <Table caption="Deployments" rows={deployments.value.deployments} id={(one) => one.deployment_name} columns={[
          { head: "Name", cell: (one) => one.deployment_name },
          { head: "Version", cell: (one) => one.served_version && one.served_version !== one.version ? `${one.served_version} → ${one.version}` : one.version },
          { head: "Status", cell: (one) => <Badge word={one.status} /> },
          { head: "Health", cell: (one) => one.health_status ? <Badge word={one.health_status} /> : "–" },
          { head: "Replicas", number: true, cell: (one) => `${count(one.ready_replicas)} of ${count(one.replicas)}` },
          { head: "Loaded in", number: true, cell: (one) => latency(one.load_time_ms) },
          { head: "Where", cell: (one) => `${one.environment}, ${one.cluster}` },
          { head: "Changed", cell: (one) => <Moment at={one.updated_at} /> },
          { head: "Says", cell: (one) => one.error_message || "–" },
        ]} />
      )}
    </Section>
  );
}
