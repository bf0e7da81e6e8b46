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
import { JobPage } from "./pages/job.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { ModelPage } from "./pages/model.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { ReleasesPage } from "./pages/releases.tsx";
import { TrafficPage } from "./pages/traffic.tsx";
import { UsagePage } from "./pages/usage.tsx";
import { VersionPage } from "./pages/version.tsx";

const MENU = [
  ["Overview", pathOf(), ["overview", "model", "version", "traffic", "releases"]],
  ["Batch jobs", pathOf("jobs"), ["jobs", "job"]],
  ["Alerts", pathOf("alerts"), ["alerts"]],
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

/** Where a page of a model is, and the model's other pages. */
function Trail({ place }: { place: Place }) {
  if (!("model" in place)) {
    return place.page === "job" ? <p class="trail"><a href={pathOf("jobs")}>Batch jobs</a></p> : null;
  }
  const pages = [
    ["Versions and metrics", pathOf("models", place.model), ["model", "version"]],
    ["Traffic", pathOf("models", place.model, "traffic"), ["traffic"]],
    ["Releases", pathOf("models", place.model, "releases"), ["releases"]],
  ] as const;
  return (
    <nav class="trail" aria-label={`Pages of ${place.model}`}>
      <ul>
        {pages.map(([name, to, names]) => (
          <li key={to}>
            <a href={to} aria-current={(names as readonly string[]).includes(place.page) ? "page" : undefined}>{name}</a>
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
    case "jobs": return <JobsPage />;
    case "job": return <JobPage job={place.job} />;
    case "alerts": return <AlertsPage />;
    case "usage": return <UsagePage />;
    case "nowhere": return (
      <div class="notice"><p>There is no page at <code>{place.path}</code>. <a href={pathOf()}>Overview</a> shows what there is.</p></div>
    );
  }
}
