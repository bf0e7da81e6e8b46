// Makes the page out of src/: one script, one style sheet, one HTML file, where the router finds them.
// `--check` writes nothing and fails where what is there differs: whoever changes src/ builds anew.
// Beside them lies the digest of what they were made from, so that a test without Node sees whether they are fresh.
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const OUT = new URL("../services/router/adapters/envoy/console_page/", import.meta.url);
const HERE = fileURLToPath(new URL(".", import.meta.url));
const check = process.argv.includes("--check");

const built = await build({
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome116", "firefox124", "safari17.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "eof",
  outdir: "dist",
  write: false,
  logLevel: "warning",
});
const files = new Map(built.outputFiles.map((file) => [file.path.split("/").at(-1) ?? "", file.text]));
files.set("index.html", await readFile(new URL("src/index.html", import.meta.url), "utf8"));

files.set("source.sha256", `${await sourceDigest()}\n`);

const stale: string[] = [];
for (const [name, text] of files) {
  const path = new URL(name, OUT);
  if ((await readFile(path, "utf8").catch(() => "")) === text) continue;
  stale.push(name);
  if (!check) await writeFile(path, text);
}
if (check && stale.length > 0) {
  console.error(`infermesh: the console that is committed is not what console/src gives: ${stale.join(", ")}; run make console`);
  process.exit(1);
}

async function sourceDigest(): Promise<string> {
  const below = await readdir(new URL("src/", import.meta.url), { recursive: true, withFileTypes: true });
  const names = below
    .filter((entry) => entry.isFile() && entry.name !== "schema.ts")
    .map((entry) => relative(HERE, join(entry.parentPath, entry.name)));
  const digest = createHash("sha256");
  for (const name of [...names, "build.ts", "package-lock.json"].sort()) {
    digest.update(`${name}\0`).update(await readFile(new URL(name, import.meta.url))).update("\0");
  }
  return digest.digest("hex");
}
