/** Instances from plain values: what one would write in JSON, typed for the wire. */
import { Feature, Instance } from "../gen/infermesh/prediction/v1/instance.js";

/** A value of a feature. Numbers become real numbers of double precision; bigints become whole numbers. */
export type Plain = number | bigint | boolean | string | Uint8Array | readonly number[] | readonly bigint[] | readonly string[];

/** A feature's value. A list's first element decides its type; an empty list is one of numbers. */
export function feature(value: Plain): Feature {
  switch (typeof value) {
    case "number":
      return { kind: { $case: "doubleValue", value } };
    case "bigint":
      return { kind: { $case: "int64Value", value } };
    case "boolean":
      return { kind: { $case: "boolValue", value } };
    case "string":
      return { kind: { $case: "stringValue", value } };
  }
  if (value instanceof Uint8Array) {
    return { kind: { $case: "bytesValue", value: Buffer.from(value) } };
  }
  switch (typeof value[0]) {
    case "string":
      return { kind: { $case: "stringList", value: { values: value as string[] } } };
    case "bigint":
      return { kind: { $case: "intList", value: { values: value as bigint[] } } };
    default:
      return { kind: { $case: "doubleList", value: { values: value as number[] } } };
  }
}

/** An instance from its features by name. */
export function instance(features: Readonly<Record<string, Plain>>): Instance {
  return { features: Object.fromEntries(Object.entries(features).map(([name, value]) => [name, feature(value)])) };
}
