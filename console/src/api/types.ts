// The messages of the API by their short names. schema.ts is made of the OpenAPI document when the console is checked.
import type { components } from "./schema.ts";

/** JSON has no word for numbers without a value; the API prints them as texts, which every format shows as "–". */
type Plain<T> = [T] extends [number | "NaN" | "Infinity" | "-Infinity"]
  ? number
  : T extends ReadonlyArray<infer Item> ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> }
  : T;

type Schemas = { [Name in keyof components["schemas"]]: Plain<components["schemas"][Name]> };

export type Caller = Schemas["infermesh.registry.v1.Caller"];
export type Model = Schemas["infermesh.registry.v1.Model"];
export type ModelVersion = Schemas["infermesh.registry.v1.ModelVersion"];
export type Lineage = Schemas["infermesh.registry.v1.GetLineageResponse"];
export type Deployment = Schemas["infermesh.deployer.v1.Deployment"];
export type Traffic = Schemas["infermesh.router.v1.Traffic"];
export type TrafficPlan = Schemas["infermesh.router.v1.TrafficPlan"];
export type TrafficChange = Schemas["infermesh.router.v1.TrafficChange"];
export type Canary = Schemas["infermesh.router.v1.Canary"];
export type CriterionResult = Schemas["infermesh.router.v1.CriterionResult"];
export type AbTest = Schemas["infermesh.router.v1.AbTest"];
export type Gateway = Schemas["infermesh.router.v1.Gateway"];
export type Batcher = Schemas["infermesh.router.v1.Batcher"];
export type ModelMetrics = Schemas["infermesh.monitor.v1.ModelMetrics"];
export type MetricPoint = Schemas["infermesh.monitor.v1.MetricPoint"];
export type Alert = Schemas["infermesh.monitor.v1.Alert"];
export type AlertRule = Schemas["infermesh.monitor.v1.AlertRule"];
export type NotificationChannel = Schemas["infermesh.monitor.v1.NotificationChannel"];
export type NotificationState = Schemas["infermesh.monitor.v1.NotificationState"];
export type Silence = Schemas["infermesh.monitor.v1.Silence"];
export type Baseline = Schemas["infermesh.monitor.v1.Baseline"];
export type DriftReport = Schemas["infermesh.monitor.v1.DriftReport"];
export type FeatureDrift = Schemas["infermesh.monitor.v1.FeatureDrift"];
export type InferenceLog = Schemas["infermesh.monitor.v1.InferenceLog"];
export type LoggingPolicy = Schemas["infermesh.monitor.v1.LoggingPolicy"];
export type Outcome = Schemas["infermesh.monitor.v1.Outcome"];
export type ShadowReport = Schemas["infermesh.monitor.v1.ShadowReport"];
export type TeamUsage = Schemas["infermesh.monitor.v1.TeamUsage"];
export type PriceTable = Schemas["infermesh.monitor.v1.PriceTable"];
export type BatchJob = Schemas["infermesh.batch.v1.BatchJob"];
export type BatchSchedule = Schemas["infermesh.batch.v1.BatchSchedule"];
export type FailedRow = Schemas["infermesh.batch.v1.FailedRow"];

/** A page of a list: its field `name`, and where to go on. */
export type Page<Name extends string, Item> = { [key in Name]: Item[] } & { next_page_token: string };
