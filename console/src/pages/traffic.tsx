// Who answers a model's requests now; a change is planned before it is made, and can be undone.
import { useState } from "preact/hooks";
import { path, requestId, send, verb, withQuery } from "../api/client.ts";
import type { Page, Traffic, TrafficChange } from "../api/types.ts";
import { useGet, useStream } from "../api/watching.ts";
import { Badge, Bar, Empty, Facts, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { More, Table } from "../parts/table.tsx";
import { PlanTable } from "../parts/plan-table.tsx";
import { ShareForm } from "../parts/share-form.tsx";
import { pathOf } from "../routing.ts";
import { candidates, said } from "../traffic/shares.ts";

export function TrafficPage({ model }: { model: string }) {
  const at = `${path("models", model)}/traffic`;
  const [traffic, setTraffic] = useState<Traffic>();
  const error = useStream<Traffic>(verb(at, "watch"), setTraffic);
  const [many, setMany] = useState(10);
  const history = useGet<Page<"changes", TrafficChange>>(withQuery(`${at}/changes`, { page_size: many }), 60_000, turnOf(traffic?.etag));
  const [undoing, setUndoing] = useState(false);
  const [done, setDone] = useState("");
  const changed = (after: Traffic, what: string) => {
    setTraffic(after);
    setDone(what);
    history.again();
  };
  if (traffic === undefined) return error ? <Failure error={error} what="The traffic cannot be followed" /> : <Reading />;
  const governed = traffic.governing_rule !== "" && traffic.governing_rule !== "split";
  const last = history.value?.changes[0];
  return (
    <>
      <Failure error={error} what="The traffic cannot be followed; what is shown may be old" />
      <p role="status" aria-live="polite" class={done ? "notice good" : "unseen"}>{done}</p>
      <Section title="Now" side={
        last ? <button type="button" onClick={() => setUndoing(true)}>Undo the last change</button> : null
      }>
        <Shares traffic={traffic} />
        <Facts facts={[
          ["Strategy", traffic.routing_strategy === "sticky" ? `sticky by ${traffic.sticky_key_header}` : traffic.routing_strategy],
          ["Decided by", governed ? <>{traffic.governing_rule}, see <a href={pathOf("models", model, "releases")}>Releases</a></> : traffic.explicit ? "somebody's choice" : "the default: the version that was ready first"],
          ["Changed", traffic.updated_at ? <><Moment at={traffic.updated_at} />{traffic.updated_by ? ` by ${traffic.updated_by}` : ""}</> : ""],
          ["Why", traffic.reason],
        ]} />
        {traffic.status_conditions.filter((one) => one.status === "False").map((one) => (
          <p key={one.type} class="notice warn">{one.message}</p>
        ))}
        <Exceptions traffic={traffic} />
      </Section>
      <Section title="Change the shares">
        {governed ? (
          <p class="notice">{traffic.governing_rule} decides the shares at the moment. End it under <a href={pathOf("models", model, "releases")}>Releases</a> to set them by hand.</p>
        ) : (
          <ShareForm key={traffic.etag} model={model} traffic={traffic} versions={candidates(traffic.ready_versions, traffic.traffic_split)}
            onDone={(after) => changed(after, `Done: ${said(after.traffic_split)}.`)} />
        )}
      </Section>
      <Section title="History">
        <Failure error={history.error} what="The history cannot be read" />
        {history.value === undefined ? (history.error ? null : <Reading />) : history.value.changes.length === 0 ? (
          <Empty command={`infermesh traffic set ${model} VERSION=100`}>Nobody has changed its traffic yet.</Empty>
        ) : (
          <>
            <Table caption="Changes, newest first" rows={history.value.changes} id={(one) => String(one.change_id)} columns={[
              { head: "When", cell: (one) => <Moment at={one.time} /> },
              { head: "What", cell: (one) => one.action.replaceAll("_", " ") },
              { head: "Shares after it", cell: (one) => said(one.after) },
              { head: "Changes", cell: (one) => one.changes.join("; ") || "–" },
              { head: "Who", cell: (one) => one.actor || "the mesh" },
              { head: "Why", cell: (one) => one.reason || "–" },
            ]} />
            <More there={history.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 20))} />
          </>
        )}
      </Section>
      {undoing && last ? (
        <Confirm title="Undo the last change" action="Undo" danger reason="Why, for the history" onClose={() => setUndoing(false)}
          onDo={async (reason) => {
            const after = await send<Traffic>("POST", verb(at, "undo"), { etag: traffic.etag, reason, request_id: requestId() });
            changed(after, `Undone: ${said(after.traffic_split)}.`);
          }}>
          <p>It brings back all that held before the change made <Moment at={last.time} />, conditions and shadows included.</p>
          <PlanTable caption="What undoing would change" before={traffic.traffic_split} after={last.before} />
        </Confirm>
      ) : null}
    </>
  );
}

/** A number for a text, so that what is read anew with it is. */
function turnOf(text: string | undefined): number {
  return [...(text ?? "")].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 2147483647, 0);
}

function Shares({ traffic }: { traffic: Traffic }) {
  const { traffic_split: asked, effective_split: effective, ready_versions: ready } = traffic;
  const versions = candidates(ready, { ...asked, ...effective });
  return (
    <Table caption="Shares of the traffic" rows={versions} id={(version) => version} columns={[
      { head: "Version", cell: (version) => <a href={pathOf("models", traffic.model_name, "versions", version)}>{version}</a> },
      { head: "Routed now", cell: (version) => <Bar percent={effective[version] ?? 0} text={`${effective[version] ?? 0}\u202f%`} /> },
      { head: "Asked for", number: true, cell: (version) => `${asked[version] ?? 0}\u202f%` },
      { head: "State", cell: (version) => <Badge word={ready.includes(version) ? "ready" : "not ready"} tone={ready.includes(version) ? "good" : "warn"} /> },
    ]} />
  );
}

function Exceptions({ traffic }: { traffic: Traffic }) {
  return (
    <>
      {traffic.conditions.length > 0 ? (
        <Table caption="Conditions: the first that matches decides" hideCaption={false} rows={traffic.conditions}
          id={(one) => `${one.attribute} ${one.match} ${one.values.join(" ")} ${one.version}`} columns={[
            { head: "Where", cell: (one) => `${one.attribute} ${one.match === "prefix" ? "begins with" : "is"} ${listed(one.values)}` },
            { head: "Goes to", cell: (one) => one.version },
          ]} />
      ) : null}
      {traffic.shadows.length > 0 ? (
        <Table caption="Shadows: versions that get copies" hideCaption={false} rows={traffic.shadows} id={(one) => one.version} columns={[
          { head: "Version", cell: (one) => one.version },
          { head: "Copied", number: true, cell: (one) => `${one.percent || 100}\u202f%` },
        ]} />
      ) : null}
    </>
  );
}

const VALUES_SHOWN = 5;

function listed(values: readonly string[]): string {
  const more = values.length - VALUES_SHOWN;
  return values.slice(0, VALUES_SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
