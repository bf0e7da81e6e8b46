// Whether the mesh is well, what fires, and every model with how it does.
import { useState } from "preact/hooks";
import { get, path } from "../api/client.ts";
import type { ApiError } from "../api/errors.ts";
import { key } from "../api/session.ts";
import type { Alert, Batcher, Gateway, Model, ModelMetrics, Page, Traffic } from "../api/types.ts";
import { asApiError, useGet, useRead, useSignal, type Known } from "../api/watching.ts";
import { changes } from "../alerts.ts";
import { count, milliseconds, percent, rate } from "../format/numbers.ts";
import { before } from "../format/times.ts";
import { AlertList } from "../parts/alert-list.tsx";
import { Badge, Empty, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";
import { said } from "../traffic/shares.ts";

const PERIOD_MS = 10_000;
const WINDOW_S = 300;
const MODELS_AT_ONCE = 25;
const CALLS_AT_ONCE = 3;

export function OverviewPage() {
  const models = useRead("models", PERIOD_MS, (signal) => readModels(signal));
  const [many, setMany] = useState(MODELS_AT_ONCE);
  return (
    <>
      <Health models={models} />
      <FiringAlerts />
      <Section title="Models">
        <Failure error={models.error} what="Models cannot be read" />
        {models.value === undefined ? (models.error ? null : <Reading />) : models.value.models.length === 0 ? (
          <Empty command="infermesh register NAME v1.0.0 FILE">
            No model is registered yet. The command registers one; <code>infermesh deploy</code> puts it to work.
          </Empty>
        ) : (
          <>
            <Models key={key.get()} all={models.value} shown={many} />
            <More there={models.value.models.length > many} onMore={() => setMany(many + MODELS_AT_ONCE)} />
          </>
        )}
      </Section>
    </>
  );
}

interface ModelsAndTraffic {
  models: Model[];
  traffic: Map<string, Traffic>;
  /** Why traffic cannot be said. */
  trafficError: ApiError | undefined;
}

async function readModels(signal: AbortSignal): Promise<ModelsAndTraffic> {
  const [models, traffic] = await Promise.all([
    get<Page<"models", Model>>("/v1/models", signal, { page_size: 1000 }),
    get<Page<"traffic", Traffic>>("/v1/traffic", signal, { page_size: 1000 }).catch(asApiErrorUnlessGone),
  ]);
  const known = "traffic" in traffic ? traffic.traffic : [];
  return {
    models: models.models,
    traffic: new Map(known.map((one) => [one.model_name, one])),
    trafficError: "traffic" in traffic ? undefined : traffic,
  };
}

function asApiErrorUnlessGone(error: unknown): ApiError {
  if ((error as Error).name === "AbortError") throw error;
  return asApiError(error);
}

function Models(props: { all: ModelsAndTraffic; shown: number }) {
  const listed = props.all.models.slice(0, props.shown);
  const names = listed.map((model) => model.name);
  const metrics = useRead(`metrics ${names.join(" ")}`, PERIOD_MS, (signal) => readMetrics(names, signal));
  const figures = (model: Model) => metrics.value?.get(model.name)?.metrics;
  return (
    <>
      <Failure error={props.all.trafficError} what="Traffic cannot be read" />
      <Failure error={metrics.error} what="Metrics cannot be read" />
      <Table caption="Models, with the metrics of the last 5 minutes" rows={listed} id={(model) => model.name} columns={[
        { head: "Model", cell: (model) => <a href={pathOf("models", model.name)}>{model.name}</a> },
        { head: "Framework", cell: (model) => model.framework },
        { head: "Versions", number: true, cell: (model) => count(model.version_count) },
        { head: "Traffic", cell: (model) => <Shares traffic={props.all.traffic.get(model.name)} /> },
        { head: "Requests", number: true, cell: (model) => rate(figures(model)?.throughput_per_sec) },
        {
          head: "Errors", number: true,
          cell: (model) => (figures(model)?.request_count ?? 0) > 0 ? percent(figures(model)?.error_rate) : "–",
        },
        {
          head: "p95", number: true,
          cell: (model) => (figures(model)?.latency?.p95 ?? 0) > 0 ? milliseconds(figures(model)?.latency.p95) : "–",
        },
        { head: "Changed", cell: (model) => <Moment at={model.updated_at} /> },
      ]} />
    </>
  );
}

function Shares({ traffic }: { traffic: Traffic | undefined }) {
  if (traffic === undefined) return <span class="quiet">not served</span>;
  return (
    <>
      <a href={pathOf("models", traffic.model_name, "traffic")}>{said(traffic.effective_split)}</a>
      {traffic.governing_rule && traffic.governing_rule !== "split" ? <> <Badge word={traffic.governing_rule} tone="busy" /></> : null}
    </>
  );
}

async function readMetrics(names: readonly string[], signal: AbortSignal): Promise<Map<string, ModelMetrics>> {
  const found = new Map<string, ModelMetrics>();
  const left = [...names];
  let failed: ApiError | undefined;
  const since = before(Date.now(), WINDOW_S);
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, async () => {
    for (let name = left.shift(); name !== undefined && failed === undefined; name = left.shift()) {
      try {
        found.set(name, await get<ModelMetrics>(`${path("models", name)}/metrics`, signal, { start_time: since }));
      } catch (error) {
        const known = asApiErrorUnlessGone(error);
        // A model that is gone since has no metrics; all else is true of the others too.
        if (known.status !== 404) failed = known;
      }
    }
  }));
  if (failed !== undefined) throw failed;
  return found;
}

function FiringAlerts() {
  const turn = useSignal(changes);
  const alerts = useGet<Page<"alerts", Alert>>("/v1/alerts?status=firing&page_size=20", PERIOD_MS, turn);
  if (alerts.value === undefined && alerts.error === undefined) return null;
  return (
    <Section title="Alerts that fire" side={<a href={pathOf("alerts")}>All alerts</a>}>
      <Failure error={alerts.error} what="Alerts cannot be read" />
      {alerts.value === undefined ? null : alerts.value.alerts.length === 0
        ? <p class="quiet">None fires.</p>
        : <AlertList caption="Alerts that fire" alerts={alerts.value.alerts} onChange={alerts.again} />}
    </Section>
  );
}

/** One part of the mesh, and what its own answer said. */
interface PartState {
  name: string;
  what: string;
  known: Known<unknown>;
}

function Health(props: { models: Known<unknown> }) {
  const parts: PartState[] = [
    { name: "Predictions", what: "gateway and batcher", known: useRead("ready", PERIOD_MS, (signal) => readReady(signal)) },
    { name: "Registry", what: "models and versions", known: props.models },
    { name: "Router", what: "traffic", known: useGet("/v1/traffic?page_size=1", PERIOD_MS) },
    { name: "Deployer", what: "deployments", known: useGet("/v1/deployments?page_size=1", PERIOD_MS) },
    { name: "Batch", what: "jobs over files", known: useGet("/v1/batch/jobs?page_size=1", PERIOD_MS) },
    { name: "Monitor", what: "metrics and alerts", known: useGet("/v1/alerts?page_size=1", PERIOD_MS) },
  ];
  return (
    <Section title="Health">
      <ul class="parts">
        {parts.map((part) => {
          const state = stateOf(part.known);
          return (
            <li key={part.name}>
              <Badge word={state} /> <strong>{part.name}</strong> <span class="quiet">{part.what}</span>
              {state === "down" ? <div class="small">{part.known.error?.message}</div> : null}
            </li>
          );
        })}
      </ul>
      <Receivers />
    </Section>
  );
}

/** A refusal is an answer: whoever says no is there. */
function stateOf(known: Known<unknown>): string {
  const { error } = known;
  if (error === undefined) return known.value === undefined ? "asked" : "up";
  return error.status === 0 || error.status >= 500 ? "down" : "up";
}

async function readReady(signal: AbortSignal): Promise<boolean> {
  return get<object>("/v2/health/ready", signal).then(() => true);
}

/** Gateways and batchers, for those who may see them. */
function Receivers() {
  const gateways = useGet<Page<"gateways", Gateway>>("/v1/gateways", PERIOD_MS);
  const batchers = useGet<Page<"batchers", Batcher>>("/v1/batchers", PERIOD_MS);
  const all = [
    ...(gateways.value?.gateways ?? []).map((one) => ({ kind: "gateway", name: one.gateway_id, ...one })),
    ...(batchers.value?.batchers ?? []).map((one) => ({ kind: "batcher", name: one.batcher_id || one.address, ...one })),
  ];
  if (all.length === 0) return null;
  return (
    <Table caption="Gateways and batchers" rows={all} id={(one) => `${one.kind} ${one.name}`} columns={[
      { head: "Name", cell: (one) => one.name },
      { head: "Kind", cell: (one) => one.kind },
      { head: "State", cell: (one) => <Badge word={one.error_message ? "failed" : one.current ? "up" : "behind"} /> },
      { head: "Revision", number: true, cell: (one) => count(one.acknowledged_revision) },
      { head: "Says", cell: (one) => one.error_message || "–" },
    ]} />
  );
}
