/*
 * live_state - phx-live-state's LiveState in Node
 *
 * The package is made for bundlers: its files are ES modules that Node 18 takes for CommonJS, and import
 * json-joy's in the same way.  So its text is taken as it is, but for the imports, which become requires of
 * the same packages.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const file = require.resolve("phx-live-state/build/src/LiveState.js");
const requireThere = createRequire(file);

// a browser's global that Node 18 has not
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor(type, { detail = null, ...options } = {}) {
    super(type, options);
    Object.defineProperty(this, "detail", { value: detail });
  }
};

const text = readFileSync(file, "utf8")
  .replaceAll(/^import (\{[^}]*\}) from ['"](.*)['"];$/gm, (line, names, from) => `const ${names} = require(${JSON.stringify(from.replace("json-joy/esm/", "json-joy/lib/"))});`)
  .replace("export class LiveState", "class LiveState")
  .replace("export default LiveState;", "return LiveState;");

export const LiveState = new Function("require", "console", text)(requireThere, { log() {}, debug() {} });
