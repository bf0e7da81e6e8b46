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
const SEVERITIES = [["", "All"], ["warning", "Warning or critical"], ["critical", "Critical"]] as const;
const STATUSES = [["", "All"], ["firing", "Firing"], ["acknowledged", "Acknowledged"], ["resolved", "Resolved"]] as const;

export function AlertsPage() {
  const [status, setStatus] = useState("");
  const [severity, setSeverity] = useState("");
  const [many, setMany] = useState(50);
  const turn = useSignal(changes);
  const alerts = useGet<Page<"alerts", Alert>>(withQuery("/v1/alerts", { status, min_severity: severity, page_size: many }), PERIOD_MS, turn);
  return (
    <>
      <div class="choices">
        <Choice label="Status" options={STATUSES} value={status} onChange={setStatus} />
        <Choice label="Severity" options={SEVERITIES} value={severity} onChange={setSeverity} />
      </div>
      <Failure error={alerts.error} what="Alerts cannot be read" />
      {alerts.value === undefined ? (alerts.error ? null : <Reading />) : alerts.value.alerts.length === 0 ? (
        <Empty>
          {status === "" && severity === "" ? "No alert has fired yet. " : "No alert is like that. "}
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
