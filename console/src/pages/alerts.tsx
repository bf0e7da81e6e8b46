// What is wrong, what was, and who looks after it.
import { useState } from "preact/hooks";
import { changes } from "../alerts.ts";
import type { Alert, Page } from "../api/types.ts";
import { useGet, useSignal } from "../api/watching.ts";
import { withQuery } from "../api/client.ts";
import { AlertList } from "../parts/alert-list.tsx";
import { Choice, Empty, Failure, Reading } from "../parts/basics.tsx";
import { More } from "../parts/table.tsx";

const PERIOD_MS = 15_000;
const STATUSES = [["", "All"], ["firing", "Firing"], ["acknowledged", "Acknowledged"], ["resolved", "Resolved"]] as const;

export function AlertsPage() {
  const [status, setStatus] = useState("");
  const [many, setMany] = useState(50);
  const turn = useSignal(changes);
  const alerts = useGet<Page<"alerts", Alert>>(withQuery("/v1/alerts", { status, page_size: many }), PERIOD_MS, turn);
  return (
    <>
      <Choice label="Status" options={STATUSES} value={status} onChange={setStatus} />
      <Failure error={alerts.error} what="Alerts cannot be read" />
      {alerts.value === undefined ? (alerts.error ? null : <Reading />) : alerts.value.alerts.length === 0 ? (
        <Empty>
          {status === "" ? "No alert has fired yet. " : `No alert is ${status}. `}
          Canaries and A/B tests that break a limit raise alerts, and so do the alert rules of the mesh.
        </Empty>
      ) : (
        <>
          <AlertList caption="Alerts, newest first" alerts={alerts.value.alerts} onChange={alerts.again} />
          <More there={alerts.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
    </>
  );
}
