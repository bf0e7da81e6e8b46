// Alert rules in words.
import { duration, milliseconds, percent, short } from "./numbers.ts";

interface Rule {
  threshold?: { metric: string; comparison: string; threshold: number; window_s: number; for_s: number; min_requests: number };
  drift?: { min_severity: string; features: readonly string[] };
  burn_rate?: {
    objective: number; indicator: string; latency_ms: number; long_window_s: number; short_window_s: number; burn_rate: number;
  };
  event?: { events: readonly string[] };
}

const SIDES: Readonly<Record<string, string>> = { ">": "above", ">=": "at or above", "<": "below", "<=": "at or below" };
const SHARES = ["error_rate", "low_confidence_rate", "accuracy"];
const PERCENTS = ["cpu_percent", "memory_percent", "gpu_utilization"];

/** When a rule fires, as a sentence without its subject. */
export function conditionSaid(rule: Rule): string {
  const { threshold, drift, burn_rate: burn, event } = rule;
  if (threshold) {
    const lasting = threshold.for_s > 0 ? `, for ${duration(threshold.for_s)}` : "";
    const enough = threshold.min_requests > 0 ? `, from ${short(threshold.min_requests)} requests on` : "";
    return `${metricSaid(threshold.metric)} ${SIDES[threshold.comparison] ?? threshold.comparison} `
      + `${metricValue(threshold.metric, threshold.threshold)} over ${duration(threshold.window_s)}${lasting}${enough}`;
  }
  if (drift) {
    const of = drift.features.length > 0 ? ` of ${drift.features.join(", ")}` : "";
    return `drift${of} is ${drift.min_severity === "high" ? "high" : "moderate or high"}`;
  }
  if (burn) {
    const good = burn.indicator === "latency" ? `answers within ${milliseconds(burn.latency_ms)}` : "success";
    return `the error budget of ${short(burn.objective * 100)}\u202f% ${good} burns ${short(burn.burn_rate)} times as fast as it may, `
      + `over ${duration(burn.long_window_s)} and ${duration(burn.short_window_s)}`;
  }
  return event ? `${event.events.map((one) => one.replaceAll("_", " ")).join(" or ")}` : "it says nothing that this page knows";
}

/** A metric's name for people. */
function metricSaid(metric: string): string {
  const latency = /^latency_(p\d+)_ms$/.exec(metric);
  if (latency) return `latency ${latency[1]}`;
  return metric === "traffic_deviation" ? "deviation of the traffic from what is usual" : metric.replaceAll("_", " ");
}

function metricValue(metric: string, value: number): string {
  if (metric.startsWith("latency_")) return milliseconds(value);
  if (SHARES.includes(metric)) return percent(value);
  return PERCENTS.includes(metric) ? `${short(value)}\u202f%` : short(value);
}

interface Channel {
  slack?: { webhook_url: string };
  pager_duty?: object;
  webhook?: { url: string };
  email?: { addresses: readonly string[] };
}

/** What kind a channel is, and where it goes as far as that is no secret. */
export function targetOf(channel: Channel): { kind: string; where: string } {
  if (channel.slack) return { kind: "Slack", where: channel.slack.webhook_url };
  if (channel.pager_duty) return { kind: "PagerDuty", where: "" };
  if (channel.webhook) return { kind: "Webhook", where: channel.webhook.url };
  return { kind: "E-mail", where: (channel.email?.addresses ?? []).join(", ") };
}

/** What a silence is about. */
export function silencedSaid(silence: { rule_name: string; model_name: string }): string {
  const rule = silence.rule_name ? `rule ${silence.rule_name}` : "every rule";
  return `${rule} of ${silence.model_name ? `model ${silence.model_name}` : "every model"}`;
}
