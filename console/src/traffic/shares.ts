// A model's shares as they are typed in, and what they would change.

export type Shares = Readonly<Record<string, number>>;

/** One line of the table before a change is made. */
export interface Line {
  version: string;
  before: number;
  after: number;
  difference: number;
}

/** Every version that has a share before or after, by how much it gains and then by name. */
export function lines(before: Shares, after: Shares): Line[] {
  const versions = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...versions]
    .map((version) => {
      const line = { version, before: before[version] ?? 0, after: after[version] ?? 0 };
      return { ...line, difference: line.after - line.before };
    })
    .filter((line) => line.before !== 0 || line.after !== 0)
    .sort((one, other) => other.difference - one.difference || compareVersions(one.version, other.version));
}

/** What is wrong with typed shares, in a sentence. Empty: nothing is. */
export function problem(typed: Readonly<Record<string, string>>): string {
  let sum = 0;
  for (const [version, text] of Object.entries(typed)) {
    if (!/^\d{1,3}$/.test(text.trim() || "0")) return `The share of ${version} is a whole number from 0 to 100, not “${text}”.`;
    const share = Number(text);
    if (share > 100) return `The share of ${version} is at most 100, not ${share}.`;
    sum += share;
  }
  if (sum < 100) return `The shares add up to ${sum}; ${100 - sum} are missing to 100.`;
  if (sum > 100) return `The shares add up to ${sum}; ${sum - 100} are too many for 100.`;
  return "";
}

/** Typed shares as the API takes them, without those that are 0. */
export function asked(typed: Readonly<Record<string, string>>): Shares {
  return Object.fromEntries(
    Object.entries(typed).map(([version, text]) => [version, Number(text || "0")] as const).filter(([, share]) => share > 0),
  );
}

/** Versions that may have a share: those that are ready, and those that have one now. */
export function candidates(ready: readonly string[], now: Shares): string[] {
  return [...new Set([...ready, ...Object.keys(now)])].sort(compareVersions);
}

/** Shares in one line, the greatest first. */
export function said(shares: Shares): string {
  const named = Object.entries(shares).sort(([one, a], [other, b]) => b - a || compareVersions(one, other));
  return named.map(([version, share]) => `${version} ${share}\u202f%`).join(", ") || "nothing";
}

/** The order of semantic versions, pre-releases below their release. */
export function compareVersions(one: string, other: string): number {
  const [a, b] = [parts(one), parts(other)];
  for (let place = 0; place < 3; place += 1) {
    const difference = (a.numbers[place] ?? 0) - (b.numbers[place] ?? 0);
    if (difference !== 0) return difference;
  }
  if (a.pre === b.pre) return 0;
  if (a.pre === "" || b.pre === "") return a.pre === "" ? 1 : -1;
  return a.pre.localeCompare(b.pre, "en", { numeric: true });
}

function parts(version: string): { numbers: number[]; pre: string } {
  const [numbers = "", ...pre] = version.replace(/^v/, "").split("-");
  return { numbers: numbers.split(".").map(Number), pre: pre.join("-") };
}
