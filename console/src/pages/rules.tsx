// Alert rules: what is watched, and who is told.
import { useState } from "preact/hooks";
import { path, send, withQuery } from "../api/client.ts";
import type { AlertRule, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { conditionSaid, silencedSaid } from "../format/rules.ts";
import { Badge, Empty, Failure, Reading } from "../parts/basics.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { SilenceDialog } from "../parts/silence.tsx";
import { More, Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const PERIOD_MS = 30_000;
const ACTIONS: Readonly<Record<string, string>> = { hold: "holds a canary", rollback: "rolls a canary back" };

export function RulesPage() {
  const [many, setMany] = useState(50);
  const [silencing, setSilencing] = useState<AlertRule>();
  const [switching, setSwitching] = useState<AlertRule>();
  const [done, setDone] = useState("");
  const rules = useGet<Page<"alert_rules", AlertRule>>(withQuery("/v1/alert-rules", { page_size: many }), PERIOD_MS);
  const word = switching?.enabled ? "off" : "on";
  return (
    <>
      <p role="status" aria-live="polite" class={done ? "notice good" : "unseen"}>{done}</p>
      <Failure error={rules.error} what="Alert rules cannot be read" />
      {rules.value === undefined ? (rules.error ? null : <Reading />) : rules.value.alert_rules.length === 0 ? (
        <Empty command="infermesh rules create NAME --when 'error_rate > 5%' --window 5m --severity critical">There is no alert rule.</Empty>
      ) : (
        <>
          <Table caption="Alert rules, by name" rows={rules.value.alert_rules} id={(one) => one.name} columns={[
            { head: "Rule", cell: (one) => <>{one.name}{one.description ? <div class="small quiet">{one.description}</div> : null}</> },
            { head: "Severity", cell: (one) => <Badge word={one.severity} /> },
            { head: "Fires when", cell: (one) => conditionSaid(one) },
            { head: "Of", cell: (one) => (one.model_name ? <><a href={pathOf("models", one.model_name)}>{one.model_name}</a> {one.version}</> : "every model") },
            { head: "Tells", cell: (one) => one.notification_channels.join(", ") || "nobody" },
            { head: "Does", cell: (one) => ACTIONS[one.rollout_action] ?? "–" },
            { head: "State", cell: (one) => <Badge word={one.enabled ? "on" : "off"} tone={one.enabled ? "good" : "warn"} /> },
            { head: "Actions", cell: (one) => (
              <div class="buttons">
                <button type="button" onClick={() => setSilencing(one)}>Silence<span class="unseen"> {one.name}</span></button>
                <button type="button" onClick={() => setSwitching(one)}>Switch {one.enabled ? "off" : "on"}<span class="unseen"> {one.name}</span></button>
              </div>
            ) },
          ]} />
          <More there={rules.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
      {silencing ? (
        <SilenceDialog rules={[silencing.name]} models={[...new Set([silencing.model_name, ""])]} onClose={() => setSilencing(undefined)}
          onDone={(made) => setDone(`Silenced: ${silencedSaid(made)}.`)} />
      ) : null}
      {switching ? (
        <Confirm title={`Switch the rule ${word}`} action={`Switch ${word}`} danger={switching.enabled} onClose={() => setSwitching(undefined)}
          onDo={async () => {
            const at = withQuery(path("alert-rules", switching.name), { update_mask: "enabled" });
            await send("PATCH", at, { enabled: !switching.enabled, etag: switching.etag });
            setDone(`${switching.name} is ${word} now.`);
            rules.again();
          }}>
          <p>{switching.enabled ? `${switching.name} is kept and not looked at any more.` : `${switching.name} is looked at again.`}</p>
        </Confirm>
      ) : null}
    </>
  );
}
