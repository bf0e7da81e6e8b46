// Who used what, and what it costs.
import { useState } from "preact/hooks";
import { get } from "../api/client.ts";
import type { Page, PriceTable, TeamUsage } from "../api/types.ts";
import { useGet, useRead } from "../api/watching.ts";
import { count, duration, short } from "../format/numbers.ts";
import { before } from "../format/times.ts";
import { byTeam } from "../format/usage.ts";
import { Choice, Empty, Failure, Reading, Section } from "../parts/basics.tsx";
import { Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

const WINDOWS = [["month", "This month"], ["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"]] as const;
const ENTRIES_MAX = 5000;

export function UsagePage() {
  const [windowS, setWindow] = useState("month");
  const usage = useRead(`usage ${windowS}`, 60_000, async (signal) => {
    const found: TeamUsage[] = [];
    let token = "";
    do {
      const page: Page<"usage", TeamUsage> = await get("/v1/usage", signal, {
        start_time: windowS === "month" ? "" : before(Date.now(), Number(windowS)), page_size: 1000, page_token: token,
      });
      found.push(...page.usage);
      token = page.next_page_token;
    } while (token !== "" && found.length < ENTRIES_MAX);
    return found;
  });
  const prices = useGet<PriceTable>("/v1/prices");
  const currency = prices.value?.currency ?? "";
  const money = (value: number) => (currency === "" ? "–" : `${short(value)} ${currency}`);
  const entries = usage.value ?? [];
  return (
    <>
      <Choice label="Window" options={WINDOWS} value={windowS} onChange={setWindow} />
      <Failure error={usage.error} what="Usage cannot be read" />
      {usage.value === undefined ? (usage.error ? null : <Reading />) : entries.length === 0 ? (
        <Empty command="infermesh teams create TEAM">Nobody used anything in this time. What callers with a key ask for counts for their team.</Empty>
      ) : (
        <>
          <Section title="By team">
            <Table caption="Usage by team" rows={byTeam(entries)} id={(one) => one.team_name} columns={[
              { head: "Team", cell: (one) => one.team_name || "no team" },
              { head: "Models", number: true, cell: (one) => count(one.models) },
              { head: "Requests", number: true, cell: (one) => count(one.request_count) },
              { head: "Predictions", number: true, cell: (one) => count(one.prediction_count) },
              { head: "Computed", number: true, cell: (one) => duration(one.compute_seconds) },
              { head: "GPUs", number: true, cell: (one) => duration(one.gpu_seconds) },
              { head: "Stored", number: true, cell: (one) => `${short(one.stored_gb_hours)} GB h` },
              { head: "Cost", number: true, cell: (one) => money(one.cost) },
            ]} />
          </Section>
          <Section title="By model and version">
            <Table caption="Usage by model and version" rows={entries} id={(one) => `${one.team_name} ${one.model_name} ${one.version}`} columns={[
              { head: "Team", cell: (one) => one.team_name || "no team" },
              { head: "Model", cell: (one) => (one.model_name ? <a href={pathOf("models", one.model_name)}>{one.model_name}</a> : "–") },
              { head: "Version", cell: (one) => one.version || "all" },
              { head: "Requests", number: true, cell: (one) => count(one.request_count) },
              { head: "Predictions", number: true, cell: (one) => count(one.prediction_count) },
              { head: "Computed", number: true, cell: (one) => duration(one.compute_seconds) },
              { head: "Cost", number: true, cell: (one) => money(one.cost) },
              { head: "Per 1,000 predictions", number: true, cell: (one) => (one.prediction_count > 0 ? money(one.cost_per_1000_predictions) : "–") },
            ]} />
          </Section>
          {currency === "" ? <p class="quiet">There are no prices yet; an operator sets them with PUT /v1/prices.</p> : null}
        </>
      )}
    </>
  );
}
