// The frame around all pages: where one can go, who one is, what fires.
import { useEffect, useRef, useState } from "preact/hooks";
import { keyWanted } from "./api/session.ts";
import type { Caller } from "./api/types.ts";
import { useGet, useSignal } from "./api/watching.ts";
import { useFiring } from "./alerts.ts";
import { KeyDialog } from "./parts/key.tsx";
import { listen, shown } from "./navigation.ts";
import { pathOf, placeOf, titleOf, type Place } from "./routing.ts";
import { AlertsPage } from "./pages/alerts.tsx";
import { ChannelsPage } from "./pages/channels.tsx";
import { DriftPage } from "./pages/drift.tsx";
import { JobPage } from "./pages/job.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { LogPage } from "./pages/log.tsx";
import { ModelPage } from "./pages/model.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { ReleasesPage } from "./pages/releases.tsx";
import { RulesPage } from "./pages/rules.tsx";
import { SchedulesPage } from "./pages/schedules.tsx";
import { SilencesPage } from "./pages/silences.tsx";
import { TrafficPage } from "./pages/traffic.tsx";
import { UsagePage } from "./pages/usage.tsx";
import { VersionPage } from "./pages/version.tsx";

const MENU = [
  ["Overview", pathOf(), ["overview", "model", "version", "traffic", "releases", "drift", "log"]],
  ["Batch jobs", pathOf("jobs"), ["jobs", "job", "schedules"]],
  ["Alerts", pathOf("alerts"), ["alerts", "rules", "channels", "silences"]],
  ["Usage", pathOf("usage"), ["usage"]],
] as const;

export function App() {
  const path = useSignal(shown);
  const wanted = useSignal(keyWanted);
  const [asking, setAsking] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  const first = useRef(true);
  const place = placeOf(path);
  const title = titleOf(place);
  const firing = useFiring();
  const caller = useGet<Caller>("/v1/caller");

  useEffect(listen, []);
  useEffect(() => {
    document.title = `${title} · infermesh`;
    // A screen reader hears of the new page, and Tab goes on from its top.
    if (!first.current) heading.current?.focus();
    first.current = false;
  }, [path]);

  return (
    <>
      <a class="skip" href="#content">Skip to the content</a>
      <header class="top">
        <a class="name" href={pathOf()}>infermesh</a>
        <nav aria-label="Pages">
          <ul>
            {MENU.map(([name, to, pages]) => (
              <li key={to}>
                <a href={to} aria-current={(pages as readonly string[]).includes(place.page) ? "page" : undefined}>
                  {name}
                  {name === "Alerts" && firing.alerts.length > 0
                    ? <span class="bubble">{firing.alerts.length}<span class="unseen"> firing</span></span> : null}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <button type="button" class="key-button" onClick={() => setAsking(true)}>
          Key{caller.value?.role ? <span class="quiet">: {[caller.value.team, caller.value.role].filter(Boolean).join(", ")}</span> : null}
        </button>
      </header>
      <main id="content" tabIndex={-1}>
        <Trail place={place} />
        <h1 ref={heading} tabIndex={-1}>{title}</h1>
        {wanted ? (
          <div class="notice warn" role="alert">
            <p>This mesh asks callers for an API key. <code>make key</code> makes one for an operator.</p>
            <button type="button" class="primary" onClick={() => setAsking(true)}>Enter a key</button>
          </div>
        ) : null}
        <Page key={path} place={place} />
      </main>
      {asking ? <KeyDialog onClose={() => setAsking(false)} /> : null}
    </>
  );
}

type Entries = ReadonlyArray<readonly [name: string, to: string, pages: readonly string[]]>;

const JOBS: Entries = [["Jobs", pathOf("jobs"), ["jobs", "job"]], ["Schedules", pathOf("schedules"), ["schedules"]]];
const ALERTS: Entries = [
  ["Alerts", pathOf("alerts"), ["alerts"]],
  ["Rules", pathOf("alerts", "rules"), ["rules"]],
  ["Channels", pathOf("alerts", "channels"), ["channels"]],
  ["Silences", pathOf("alerts", "silences"), ["silences"]],
];

/** The pages beside this one: those of its model, of jobs, of alerts. */
function beside(place: Place): [label: string, entries: Entries] | undefined {
  if ("model" in place) {
    const { model } = place;
    return [`Pages of ${model}`, [
      ["Versions and metrics", pathOf("models", model), ["model", "version"]],
      ["Traffic", pathOf("models", model, "traffic"), ["traffic"]],
      ["Releases", pathOf("models", model, "releases"), ["releases"]],
      ["Drift", pathOf("models", model, "drift"), ["drift"]],
      ["Predictions", pathOf("models", model, "log"), ["log"]],
    ]];
  }
  if (JOBS.some(([, , pages]) => pages.includes(place.page))) return ["Pages of batch jobs", JOBS];
  return ALERTS.some(([, , pages]) => pages.includes(place.page)) ? ["Pages of alerts", ALERTS] : undefined;
}

function Trail({ place }: { place: Place }) {
  const found = beside(place);
  if (found === undefined) return null;
  const [label, pages] = found;
  return (
    <nav class="trail" aria-label={label}>
      <ul>
        {pages.map(([name, to, names]) => (
          <li key={to}>
            <a href={to} aria-current={names.includes(place.page) ? "page" : undefined}>{name}</a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Page({ place }: { place: Place }) {
  switch (place.page) {
    case "overview": return <OverviewPage />;
    case "model": return <ModelPage model={place.model} />;
    case "version": return <VersionPage model={place.model} version={place.version} />;
    case "traffic": return <TrafficPage model={place.model} />;
    case "releases": return <ReleasesPage model={place.model} />;
    case "drift": return <DriftPage model={place.model} report={place.report} />;
    case "log": return <LogPage model={place.model} request={place.request} />;
    case "jobs": return <JobsPage />;
    case "job": return <JobPage job={place.job} />;
    case "schedules": return <SchedulesPage />;
    case "alerts": return <AlertsPage />;
    case "rules": return <RulesPage />;
    case "channels": return <ChannelsPage />;
    case "silences": return <SilencesPage />;
    case "usage": return <UsagePage />;
    case "nowhere": return (
      <div class="notice"><p>There is no page at <code>{place.path}</code>. <a href={pathOf()}>Overview</a> shows what there is.</p></div>
    );
  }
}
