// Walks a folder as Immich's library scan does, once for each exclusion pattern that comes in; writes what it found, a list for each.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [packages, folder] = process.argv.slice(2);
const { globSync } = createRequire(`${packages}/`)("fast-glob");
const walk = (pattern) =>
  globSync([`${folder}/**/*{.jpg,.png}`], {
    absolute: true,
    caseSensitiveMatch: false,
    onlyFiles: true,
    dot: false,
    ignore: [pattern],
  });

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(walk)));
