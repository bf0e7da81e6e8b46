// Alerts as a list, with what to do about each.
import { useState } from "preact/hooks";
import { path, send, verb } from "../api/client.ts";
import type { Alert } from "../api/types.ts";
import { silencedSaid } from "../format/rules.ts";
import { pathOf } from "../routing.ts";
import { Badge, Moment } from "./basics.tsx";
import { Confirm } from "./dialog.tsx";
import { SilenceDialog } from "./silence.tsx";

export function AlertList(props: { caption: string; alerts: readonly Alert[]; onChange: () => void }) {
  const [taken, setTaken] = useState<Alert>();
  const [silenced, setSilenced] = useState<Alert>();
  const [done, setDone] = useState("");
  return (
    <>
      <p role="status" aria-live="polite" class={done ? "notice good" : "unseen"}>{done}</p>
      <ul class="alerts" aria-label={props.caption}>
        {props.alerts.map((alert) => (
          <li key={alert.alert_id} class={alert.status === "firing" ? `alert ${alert.severity}` : "alert"}>
            <p class="alert-head">
              <Badge word={alert.severity} /> <Badge word={alert.status} /> {alert.silenced ? <Badge word="silenced" /> : null}{" "}
              <strong>{alert.rule_name}</strong>
              {alert.model_name ? (
                <> of <a href={pathOf("models", alert.model_name)}>{alert.model_name}</a> {alert.version}</>
              ) : null}
              {" "}<Moment at={alert.fired_at ?? alert.started_at} />
            </p>
            <p>{alert.summary}</p>
            {alert.probable_cause ? <p class="small">Probable cause: {alert.probable_cause}</p> : null}
            {alert.undo_command ? <pre tabIndex={0} aria-label="Command that undoes it"><code>{alert.undo_command}</code></pre> : null}
            {alert.acknowledged_at ? (
              <p class="small">
                {alert.acknowledged_by || "Somebody"} looks after it since <Moment at={alert.acknowledged_at} />
                {alert.acknowledgement_note ? `: ${alert.acknowledgement_note}` : ""}
              </p>
            ) : null}
            {alert.resolved_at ? <p class="small">Resolved <Moment at={alert.resolved_at} /></p> : null}
            {alert.notifications.filter((one) => one.status !== "sent").map((one) => (
              <p key={one.channel} class="small">
                {one.channel} {one.status === "failed" ? `was not reached: ${one.error_message}` : "is still to be told"}
              </p>
            ))}
            {alert.status === "resolved" ? null : (
              <div class="buttons">
                {alert.status === "firing" ? (
                  <button type="button" onClick={() => setTaken(alert)}>
                    Acknowledge<span class="unseen"> {alert.rule_name} {alert.model_name}</span>
                  </button>
                ) : null}
                <button type="button" onClick={() => setSilenced(alert)}>
                  Silence<span class="unseen"> {alert.rule_name} {alert.model_name}</span>
                </button>
              </div>
            )}
          </li>
        ))}
      </ul>
      {silenced ? (
        <SilenceDialog rules={[silenced.rule_name, ""]} models={[...new Set([silenced.model_name, ""])]} onClose={() => setSilenced(undefined)}
          onDone={(made) => {
            setDone(`Silenced: ${silencedSaid(made)}.`);
            props.onChange();
          }} />
      ) : null}
      {taken ? (
        <Confirm title="Acknowledge the alert" action="Acknowledge" reason="A note for the others"
          onClose={() => setTaken(undefined)}
          onDo={async (note) => {
            await send("POST", verb(path("alerts", taken.alert_id), "acknowledge"), { note });
            props.onChange();
          }}>
          <p>{taken.summary}</p>
          <p>It says that you look after it: it is not sent again while it lasts.</p>
        </Confirm>
      ) : null}
    </>
  );
}
