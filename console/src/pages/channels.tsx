// Notification channels: where alerts are sent, and whether that works.
import { useState } from "preact/hooks";
import { path, send, verb, withQuery } from "../api/client.ts";
import type { NotificationChannel, NotificationState, Page } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { targetOf } from "../format/rules.ts";
import { Badge, Empty, Failure, Moment, Reading } from "../parts/basics.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { More, Table } from "../parts/table.tsx";

const PERIOD_MS = 30_000;

export function ChannelsPage() {
  const [many, setMany] = useState(50);
  const [trying, setTrying] = useState<NotificationChannel>();
  const [tried, setTried] = useState<NotificationState>();
  const channels = useGet<Page<"notification_channels", NotificationChannel>>(withQuery("/v1/notification-channels", { page_size: many }), PERIOD_MS);
  return (
    <>
      <p role="status" aria-live="polite" class={tried ? `notice ${tried.status === "sent" ? "good" : "bad"}` : "unseen"}>
        {tried ? said(tried) : ""}
      </p>
      <Failure error={channels.error} what="Notification channels cannot be read" />
      {channels.value === undefined ? (channels.error ? null : <Reading />) : channels.value.notification_channels.length === 0 ? (
        <Empty command="infermesh channels create NAME --webhook https://example.com/hook --severity critical">
          There is no channel, so alerts are only shown. The command makes one; rules name the channels that they tell.
        </Empty>
      ) : (
        <>
          <Table caption="Notification channels, by name" rows={channels.value.notification_channels} id={(one) => one.name} columns={[
            { head: "Channel", cell: (one) => one.name },
            { head: "Kind", cell: (one) => targetOf(one).kind },
            { head: "Goes to", cell: (one) => <span class="digest">{targetOf(one).where || "–"}</span> },
            { head: "From severity", cell: (one) => <Badge word={one.min_severity || "info"} /> },
            { head: "Changed", cell: (one) => <Moment at={one.updated_at} /> },
            { head: "Actions", cell: (one) => (
              <button type="button" onClick={() => setTrying(one)}>Send a test<span class="unseen"> over {one.name}</span></button>
            ) },
          ]} />
          <More there={channels.value.next_page_token !== ""} onMore={() => setMany(Math.min(1000, many + 50))} />
        </>
      )}
      {trying ? (
        <Confirm title="Send a test" action="Send" onClose={() => setTrying(undefined)}
          onDo={async () => setTried(await send<NotificationState>("POST", verb(path("notification-channels", trying.name), "test"), {}))}>
          <p>{trying.name} gets an alert that says that it is a test.</p>
        </Confirm>
      ) : null}
    </>
  );
}

function said(state: NotificationState): string {
  return state.status === "sent" ? `${state.channel} took the test.` : `${state.channel} was not reached: ${state.error_message || state.status}`;
}
