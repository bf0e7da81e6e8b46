// Usage, added up by team.

export interface Entry {
  team_name: string;
  model_name: string;
  version: string;
  request_count: number;
  prediction_count: number;
  serving_seconds: number;
  compute_seconds: number;
  gpu_seconds: number;
  stored_gb_hours: number;
  cost: number;
}

export interface TeamTotal extends Omit<Entry, "model_name" | "version"> {
  models: number;
}

/** One total for each team, the dearest first and then the busiest. */
export function byTeam(entries: readonly Entry[]): TeamTotal[] {
  const totals = new Map<string, TeamTotal>();
  const models = new Map<string, Set<string>>();
  for (const entry of entries) {
    const total = totals.get(entry.team_name) ?? {
      team_name: entry.team_name, models: 0, request_count: 0, prediction_count: 0, serving_seconds: 0, compute_seconds: 0,
      gpu_seconds: 0, stored_gb_hours: 0, cost: 0,
    };
    for (const field of ["request_count", "prediction_count", "serving_seconds", "compute_seconds", "gpu_seconds", "stored_gb_hours", "cost"] as const) {
      total[field] += entry[field];
    }
    const seen = models.get(entry.team_name) ?? new Set<string>();
    if (entry.model_name !== "") seen.add(entry.model_name);
    models.set(entry.team_name, seen);
    total.models = seen.size;
    totals.set(entry.team_name, total);
  }
  return [...totals.values()].sort((one, other) => other.cost - one.cost || other.request_count - one.request_count);
}
