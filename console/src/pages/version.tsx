// One version: what it is, what it takes and gives, where it came from.
import { path } from "../api/client.ts";
import type { Lineage, ModelVersion } from "../api/types.ts";
import { useGet } from "../api/watching.ts";
import { bytes, short } from "../format/numbers.ts";
import { Badge, Facts, Failure, Moment, Reading, Section } from "../parts/basics.tsx";
import { Table } from "../parts/table.tsx";
import { pathOf } from "../routing.ts";

export function VersionPage({ model, version: name }: { model: string; version: string }) {
  const at = path("models", model, "versions", name);
  const version = useGet<ModelVersion>(at, 30_000);
  if (version.value === undefined) return version.error ? <Failure error={version.error} what="The version cannot be read" /> : <Reading />;
  const one = version.value;
  const metrics = Object.entries(one.training_metrics);
  return (
    <>
      <Facts facts={[
        ["Stage", <Badge word={one.stage} />],
        ["Aliases", one.aliases.join(", ")],
        ["Framework", `${one.framework} ${one.framework_version}`],
        ["Size", `${bytes(one.model_size_bytes)}, ${one.artifact_kind}`],
        ["Artifact", <code class="digest">{one.artifact_digest}</code>],
        ["Taken from", <code class="digest">{one.artifact_uri}</code>],
        ["Tags", one.tags.join(", ")],
        ["Signature", one.signature?.kind ? (one.signature.verified ? `verified, by ${one.signature.signer}` : `not verified: ${one.signature.problem}`) : ""],
        ["Registered", <><Moment at={one.created_at} />{one.created_by ? ` by ${one.created_by}` : ""}</>],
      ]} />
      <div class="beside">
        <Schema title="Takes" schema={one.input_schema} />
        <Schema title="Gives" schema={one.output_schema} />
        {metrics.length > 0 ? (
          <Section title="Measured in training">
            <Table caption="Measured in training" rows={metrics} id={([metric]) => metric} columns={[
              { head: "Metric", cell: ([metric]) => metric },
              { head: "Value", number: true, cell: ([, value]) => short(value) },
            ]} />
          </Section>
        ) : null}
      </div>
      <LineagePart at={at} own={`version:${model}@${one.version}`} />
      {one.model_card ? <Section title="Model card"><pre class="card" tabIndex={0} aria-label="Model card">{one.model_card}</pre></Section> : null}
    </>
  );
}

function Schema(props: { title: string; schema: object | undefined }) {
  const fields = Object.entries((props.schema ?? {}) as Record<string, unknown>);
  if (fields.length === 0) return null;
  return (
    <Section title={props.title}>
      <Table caption={props.title} rows={fields} id={([field]) => field} columns={[
        { head: "Name", cell: ([field]) => field },
        { head: "Type", cell: ([, type]) => <code>{typeof type === "string" ? type : JSON.stringify(type)}</code> },
      ]} />
    </Section>
  );
}

const WORDS: Readonly<Record<string, string>> = {
  parent: "was made from", trained_by_run: "was trained by", trained_on: "was trained on", built_from: "was built from",
  trained_by: "was trained by",
};

function LineagePart({ at, own }: { at: string; own: string }) {
  const lineage = useGet<Lineage>(`${at}/lineage`);
  const nodes = new Map((lineage.value?.nodes ?? []).map((node) => [node.node_id, node]));
  const named = (id: string) => {
    const node = nodes.get(id);
    const [model, version] = (node?.name ?? "").split("@");
    if (node === undefined) return id;
    if (id === own) return <strong>{node.name}</strong>;
    return node.kind === "version" && model && version
      ? <a href={pathOf("models", model, "versions", version)}>{node.name}</a>
      : <>{node.kind} {node.name}</>;
  };
  return (
    <Section title="Lineage">
      <Failure error={lineage.error} what="Lineage cannot be read" />
      {lineage.value === undefined ? (lineage.error ? null : <Reading />) : lineage.value.edges.length === 0 ? (
        <p class="quiet">Nothing is stated of where it came from, and nothing was made from it.</p>
      ) : (
        <Table caption="Lineage" rows={lineage.value.edges} id={(edge) => `${edge.from_node} ${edge.to_node} ${edge.relation}`} columns={[
          { head: "What", cell: (edge) => named(edge.to_node) },
          { head: "How", cell: (edge) => WORDS[edge.relation] ?? edge.relation },
          { head: "From", cell: (edge) => named(edge.from_node) },
        ]} />
      )}
      {lineage.value?.truncated ? <p class="quiet">There is more than is shown; infermesh lineage has all of it.</p> : null}
    </Section>
  );
}
