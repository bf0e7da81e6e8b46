// Silences: which alerts are not sent for now, and why.
import { useState } from "preact/hooks";
import { path, remove, withQuery } from "../api/client.ts";
import type { AlertRule, Model, Page, Silence } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { silencedSaid } from "../format/rules.ts";
import { Badge, Empty, Failure, Moment, Reading, useNow } from "../parts/basics.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { SilenceDialog } from "../parts/silence.tsx";
import { More, Table } from "../parts/table.tsx";

const PERIOD_MS = 15_000;

export function SilencesPage() {
  const [many, setMany] = useState(50);
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<Silence>();
  const [done, setDone] = useState("");
  const silences = useGet<Page<"silences", Silence>>(withQuery("/v1/silences", { page_size: many }), PERIOD_MS);
  const now = useNow();
  const changed = (what: string) => {
    setDone(what);
    silences.again();
  };
  return (
    <>
      <p role="status" aria-live="polite" class={done ? "notice good" : "unseen"}>{done}</p>
      <div class="buttons"><button type="button" onClick={() => setMaking(true)}>Silence a rule or a model</button></div>
      <Failure error={silences.error} what="Silences cannot be read" />
      {silences.value === undefined ? (silences.error ? null : <Reading />) : silences.value.silences.length === 0 ? (
        <Empty command={'infermesh silences create 2h --model MODEL --reason "load test"'}>
          Nothing is silenced. A silence keeps alerts of a rule or a model from being sent for a while.
        </Empty>
      ) : (
        <>
          <Table caption="Silences, the one that ends first at the head" rows={silences.value.silences} id={(one) => one.silence_id} columns={[
            { head: "Of", cell: (one) => silencedSaid(one) },
            { head: "State", cell: (one) => (Date.parse(one.start_time) > now ? <Badge word="to come" /> : <Badge word="silenced" />) },
            { head: "Why", cell: (one) => one.reason || "–" },
            { head: "Since", cell: (one) => <Moment at={one.start_time} /> },
            { head: "Ends", cell: (one) => <Moment at={one.end_time} /> },
            { head: "Who", cell: (one) => one.created_by || "–" },
            { head: "Actions", cell: (one) => (
              <button type="button" onClick={() => setEnding(one)}>End<span class="unseen"> the silence of {silencedSaid(one)}</span></button>
            ) },
          ]} />
          <More there={silences.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
      {making ? <NewSilence onDone={(made) => changed(`Silenced: ${silencedSaid(made)}.`)} onClose={() => setMaking(false)} /> : null}
      {ending ? (
        <Confirm title="End the silence" action="End it" onClose={() => setEnding(undefined)}
          onDo={async () => {
            await remove(path("silences", ending.silence_id));
            changed(`Ended: the silence of ${silencedSaid(ending)}.`);
          }}>
          <p>Alerts of {silencedSaid(ending)} are sent again.</p>
        </Confirm>
      ) : null}
    </>
  );
}

/** With all rules and models to choose from. */
function NewSilence(props: { onDone: (made: Silence) => void; onClose: () => void }) {
  const rules = useGet<Page<"alert_rules", AlertRule>>("/v1/alert-rules?page_size=1000");
  const models = useGet<Page<"models", Model>>("/v1/models?page_size=1000");
  return (
    <SilenceDialog rules={["", ...(rules.value?.alert_rules ?? []).map((one) => one.name)]}
      models={["", ...(models.value?.models ?? []).map((one) => one.name)]} onDone={props.onDone} onClose={props.onClose} />
  );
}
