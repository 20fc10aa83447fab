/*
 * What make install puts where: a program built out of the tree, and a Debian nginx that loads and includes it.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Raw } from "./lib/raw.mjs";
import { until, within } from "./lib/wait.mjs";
import { freePort, tree } from "./system.mjs";

const root = mkdtempSync(join(tmpdir(), "seance-"));
const path = `${process.env.PATH}:/usr/sbin`;
const run = (command, args, env = {}) => execFileSync(command, args, { cwd: tree, encoding: "utf8", stdio: "pipe", env: { ...process.env, PATH: path, ...env } });
const make = (...args) => {
  const { MAKEFLAGS, MFLAGS, MAKELEVEL, ...env } = process.env;
  return execFileSync("make", ["-s", `DESTDIR=${root}`, "PREFIX=/usr", "SANITIZE=", ...args], { cwd: tree, encoding: "utf8", env });
};
const started = [];
const start = (command, args) => {
  const child = spawn("setpriv", ["--pdeathsig", "TERM", command, ...args], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: path } });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (child.said += data));
  started.push(child);
  return child;
};
const files = (dir) => readdirSync(dir, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? files(join(dir, entry.name)) : [join(dir, entry.name)]));

describe("make install", () => {
  before(() => make("install"));
  after(async () => {
    for (const child of started.reverse()) {
      const ended = new Promise((done) => child.on("exit", done));
      if (child.exitCode === null && child.kill("SIGTERM")) await within(ended, "the end of a process", 15000);
    }
    rmSync(root, { recursive: true, force: true });
  });

  it("builds an author's program out of the tree, and nginx serves it by what was installed", async () => {
    const source = join(root, "counter.c");
    const program = join(root, "usr/lib/seance/program");
    mkdirSync(join(root, "usr/lib/seance"));
    writeFileSync(
      source,
      `#include <seance.h>
       static enum seance_status init(struct seance_call *call, const char *topic, json_object *payload)
       { return seance_set_state(call, seance_json("{\\"count\\":0}")); }
       static enum seance_status event(struct seance_call *call, const char *event, json_object *payload, json_object *state)
       { return seance_replace(call, json_object_new_int64(json_object_get_int64(json_object_object_get(state, "count")) + 1), "/count"); }
       static const struct seance_channel counter = {.topic = "counter:*", .init = init, .handle_event = event};
       SEANCE_MAIN(&counter)`,
    );
    const pkg = { PKG_CONFIG_PATH: join(root, "usr/lib/pkgconfig") };
    // what lies in DESTDIR alone is named by hand; on a real machine pkg-config says it all
    const flags = run("pkg-config", ["--cflags", "--libs", "seance"], pkg).trim().split(/\s+/);
    assert.ok(flags.includes("-lseance") && flags.includes("-lsqlite3"));
    run("gcc", ["-Wall", `-I${root}/usr/include`, source, "-o", program, `-L${root}/usr/lib`, ...flags]);

    const state = join(root, "var/lib/seance");
    const conf = join(root, "etc/nginx");
    mkdirSync(state, { recursive: true, mode: 0o755 });
    // as Debian's nginx has it
    symlinkSync("../../lib/nginx/modules", join(root, "usr/share/nginx/modules"));
    const enabled = join(conf, "modules-enabled/50-mod-http-seance.conf");
    rmSync(enabled);
    symlinkSync("../../../usr/share/nginx/modules-available/mod-http-seance.conf", enabled);
    for (const name of ["http", "server"]) {
      const file = join(conf, `seance-${name}.conf`);
      writeFileSync(file, readFileSync(file, "utf8").replaceAll("/var/lib/seance", state));
    }
    const port = await freePort();
    writeFileSync(
      join(conf, "nginx.conf"),
      `user root; daemon off; pid ${root}/nginx.pid; include ${conf}/modules-enabled/*.conf; events {}
       http { access_log off; client_body_temp_path ${root}/t1; proxy_temp_path ${root}/t2; fastcgi_temp_path ${root}/t3; uwsgi_temp_path ${root}/t4; scgi_temp_path ${root}/t5;
         include seance-http.conf; server { listen 127.0.0.1:${port}; include seance-server.conf; } }`,
    );
    start(program, ["serve", `--dir=${state}`]);
    await until(() => existsSync(join(state, "link.sock")), "the program's sockets");
    const nginx = start("nginx", ["-p", join(root, "usr/share/nginx"), "-c", join(conf, "nginx.conf"), "-e", join(root, "error.log")]);
    const raw = await until(() => Raw.open(`ws://127.0.0.1:${port}/socket/websocket?vsn=2.0.0`), () => `a socket; nginx said ${nginx.said}`, 10000);
    try {
      assert.deepEqual(await raw.join("counter:a"), { state: { count: 0 }, version: 0 });
      raw.send(["1", "2", "counter:a", "seance:event:inc", {}]);
      assert.deepEqual((await raw.frame())[4], { operations: [{ op: "replace", path: "/count", value: 1 }], version: 1 });
    } finally {
      await raw.close();
    }
  });

  it("has a unit that systemd can read", (t) => {
    const unit = join(root, "usr/lib/systemd/system/seance.service");
    assert.doesNotMatch(readFileSync(unit, "utf8"), /@/);
    if (!existsSync("/usr/bin/systemd-analyze")) return t.skip("no systemd-analyze here");
    const said = run("sh", ["-c", `systemd-analyze verify --man=no --root='${root}' seance.service 2>&1 || true`]);
    assert.doesNotMatch(said, /seance\.service.*(Unknown|Failed to parse|Invalid|Missing)/i);
  });

  it("installed again, it leaves a site's includes as they are", () => {
    const file = join(root, "etc/nginx/seance-params.conf");
    writeFileSync(file, "# mine\n");
    make("install");
    assert.equal(readFileSync(file, "utf8"), "# mine\n");
  });

  it("uninstall leaves nothing of it", () => {
    make("uninstall");
    const mine = /counter|program$|nginx\.(conf|pid)$|error\.log|var\/lib|modules$/;
    assert.deepEqual(files(root).filter((file) => !mine.test(file)), []);
  });
});
