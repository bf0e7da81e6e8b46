// Shares typed in, planned, looked at, made.
import { useEffect, useRef, useState } from "preact/hooks";
import { path, requestId, send, verb } from "../api/client.ts";
import type { ApiError } from "../api/errors.ts";
import type { Traffic, TrafficPlan } from "../api/types.ts";
import { asApiError } from "../api/watching.ts";
import { asked, problem } from "../traffic/shares.ts";
import { Failure } from "./basics.tsx";
import { PlanTable } from "./plan-table.tsx";

export function ShareForm(props: { model: string; traffic: Traffic; versions: readonly string[]; onDone: (after: Traffic) => void }) {
  const { model, traffic, versions } = props;
  const [typed, setTyped] = useState<Record<string, string>>(() =>
    Object.fromEntries(versions.map((version) => [version, String(traffic.traffic_split[version] ?? 0)])));
  const [reason, setReason] = useState("");
  const [plan, setPlan] = useState<TrafficPlan>();
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const planned = useRef<HTMLDivElement>(null);
  const wrong = problem(typed);
  useEffect(() => {
    if (plan !== undefined) planned.current?.focus();
  }, [plan]);

  const wish = () => ({ traffic_split: asked(typed), etag: traffic.etag, reason });
  const attempt = async (what: () => Promise<void>) => {
    setBusy(true);
    setError(undefined);
    try {
      await what();
    } catch (failed) {
      setError(asApiError(failed));
    } finally {
      setBusy(false);
    }
  };
  const makePlan = () => attempt(async () => setPlan(await send<TrafficPlan>("POST", verb(`${path("models", model)}/traffic`, "plan"), wish())));
  const apply = () => attempt(async () => {
    const after = await send<Traffic>("PATCH", `${path("models", model)}/traffic`, { ...wish(), request_id: requestId() });
    setPlan(undefined);
    props.onDone(after);
  });

  return (
    <>
      <form class="shares" onSubmit={(event) => { event.preventDefault(); void makePlan(); }}>
        {versions.map((version) => (
          <label key={version} class="field">Share of {version}, in percent
            <input type="number" min={0} max={100} step={1} inputMode="numeric" value={typed[version]} disabled={plan !== undefined}
              onInput={(event) => setTyped({ ...typed, [version]: event.currentTarget.value })} />
          </label>
        ))}
        <label class="field">Why, for the history
          <input type="text" maxLength={1000} value={reason} disabled={plan !== undefined}
            onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
        <p class="small" role="status" aria-live="polite">{wrong || "The shares add up to 100."}</p>
        {plan === undefined ? (
          <div class="buttons"><button type="submit" class="primary" disabled={busy || wrong !== ""}>{busy ? "Planning…" : "Plan"}</button></div>
        ) : null}
      </form>
      <Failure error={error} what={plan ? "The change was not made" : "This cannot be planned"} />
      {plan ? (
        <div class="plan" ref={planned} tabIndex={-1} role="group" aria-label="The plan">
          <h3>The plan: nothing has changed yet</h3>
          <PlanTable caption="What would change" before={plan.before.traffic_split} after={plan.after.traffic_split} />
          <p>{plan.moved_percent === 0 ? "No request would get another version than now." : `${plan.moved_percent}\u202f% of the traffic would get another version than now.`}</p>
          {plan.changes.length > 0 ? <ul>{plan.changes.map((change) => <li key={change}>{change}</li>)}</ul> : null}
          <div class="buttons">
            <button type="button" class="primary" disabled={busy} onClick={() => void apply()}>{busy ? "Working…" : "Make this change"}</button>
            <button type="button" disabled={busy} onClick={() => { setPlan(undefined); setError(undefined); }}>Back</button>
          </div>
        </div>
      ) : null}
    </>
  );
}
