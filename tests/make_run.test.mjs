/*
 * make run: starts, stops, restarts what ends, and says in one line why it cannot
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, afterEach, describe, it } from "node:test";
import { patience, until } from "./lib/wait.mjs";
import { Script, alive, freePort, pidIn, temporaryDir, tree } from "./system.mjs";

const base = temporaryDir();
const scripts = [];
let folders = 0;
const newDir = () => join(base, String(++folders), "run");

/* start - settings as for make run; make: true goes through make */
function start(settings, { make = false } = {}) {
  const env = { PROGRAM: "", READY_SECONDS: String(20 * patience), APP: "examples/todos", LISTEN: "127.0.0.1", ...settings };
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const script = make ? new Script("make", ["--no-print-directory", "run", ...variables.filter((text) => !/^(PROGRAM|READY)/.test(text))], {}) : new Script("scripts/run", [], env);
  scripts.push(script);
  return script;
}

const pids = (dir) => ["nginx", "supervisor", "worker"].map((name) => pidIn(dir, name));

/* processesOf - the living processes whose command line names the folder */
const processesOf = (dir) =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && alive(name))
    .filter((name) => {
      try {
        const line = readFileSync(`/proc/${name}/cmdline`, "latin1");
        return line.includes(dir) && !line.startsWith("make") && !line.startsWith("setpriv");
      } catch {
        return false;
      }
    });

async function nothingLeft(dir) {
  await until(() => processesOf(dir).length === 0, () => `the end of ${processesOf(dir)}`);
}

const page = async (url) => (await fetch(url, { headers: { connection: "close" } })).status;

afterEach(async () => {
  for (const script of scripts.splice(0)) {
    if (!script.how) script.child.kill("SIGTERM");
    await script.end().catch(() => script.child.kill("SIGKILL"));
  }
});

after(() => rmSync(base, { recursive: true, force: true }));

/* refused - the start ends with a status other than 0 and exactly one line, which is returned */
async function refused(settings) {
  const script = start(settings);
  const { status } = await script.end();
  assert.notEqual(status, 0);
  const lines = script.output.trim().split("\n");
  assert.equal(lines.length, 1, script.output);
  await nothingLeft(settings.DIR);
  return lines[0];
}

describe("make run", () => {
  it("prints the address when the page answers, and keeps all in DIR", async () => {
    const dir = newDir();
    const port = await freePort();
    const script = start({ PORT: port, DIR: dir }, { make: true });
    const url = await script.ready(60000);
    assert.equal(url, `http://127.0.0.1:${port}/`);
    const response = await fetch(url);
    assert.equal(response.status, 200);
    assert.match(await response.text(), /<html/i);
    assert.equal(response.headers.get("server"), "nginx");
    const javascript = await fetch(`${url}seance.js`);
    assert.equal(javascript.status, 200);
    assert.match(javascript.headers.get("content-type"), /^text\/javascript/);
    for (const name of ["seance.db", "nginx.conf", "nginx.pid", "supervisor.pid", "worker.pid", "access.log", "error.log", "program.log", "program.sock", "link.sock", "internal.sock"]) {
      assert.ok(existsSync(join(dir, name)), name);
    }
    assert.equal(statSync(dir).mode & 0o777, 0o700);
    for (const pid of pids(dir)) assert.ok(alive(pid));
  });

  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    it(`${signal} to make alone stops all`, async () => {
      const dir = newDir();
      const script = start({ PORT: await freePort(), DIR: dir }, { make: true });
      await script.ready(60000);
      const started = pids(dir);
      script.child.kill(signal);
      await script.end();
      for (const pid of started) assert.ok(pid && !alive(pid), `${pid} lives`);
      await nothingLeft(dir);
      for (const name of ["nginx.pid", "supervisor.pid", "worker.pid", "program.sock", "link.sock", "internal.sock"]) {
        assert.ok(!existsSync(join(dir, name)), `${name} is left`);
      }
    });
  }

  it("Ctrl-C twice, at make and script, stops all once", async () => {
    const dir = newDir();
    const script = start({ PORT: await freePort(), DIR: dir });
    await script.ready();
    script.child.kill("SIGINT");
    script.child.kill("SIGINT");
    await until(() => script.how || (script.child.kill("SIGINT"), false), "the end", 20000, 5);
    assert.equal(script.how.status, 0);
    await nothingLeft(dir);
  });

  it("a signal during the start stops it as well", async () => {
    const dir = newDir();
    const script = start({ PORT: await freePort(), DIR: dir });
    await until(() => pidIn(dir, "nginx") || existsSync(join(dir, "program.log")), "the start");
    script.child.kill("SIGINT");
    assert.equal((await script.end()).status, 0);
    await nothingLeft(dir);
  });

  it("killed itself, it leaves nothing running, and the next start goes on with the stored state", async () => {
    const dir = newDir();
    const port = await freePort();
    const first = start({ PORT: port, DIR: dir });
    await first.ready();
    const before = statSync(join(dir, "seance.db")).ino;
    const started = pids(dir);
    first.child.kill("SIGKILL");
    await first.end();
    await until(() => !started.some(alive), "the end of nginx and program", 15000);
    const second = start({ PORT: port, DIR: dir });
    await second.ready();
    assert.equal(statSync(join(dir, "seance.db")).ino, before);
  });

  for (const signal of ["SIGTERM", "SIGKILL"]) {
    it(`an nginx that ends by ${signal} is started again, the program stays`, async () => {
      const dir = newDir();
      const port = await freePort();
      const script = start({ PORT: port, DIR: dir });
      const url = await script.ready();
      const [nginx, supervisor, worker] = pids(dir);
      process.kill(nginx, signal);
      await until(() => pidIn(dir, "nginx") !== nginx && alive(pidIn(dir, "nginx")), "a new nginx", 15000);
      await until(() => page(url).then((status) => status === 200), "the page");
      assert.deepEqual(pids(dir).slice(1), [supervisor, worker]);
      assert.match(script.output, /nginx ended by itself .*started again/);
    });
  }

  it("ends when the program's supervisor does", async () => {
    const dir = newDir();
    const script = start({ PORT: await freePort(), DIR: dir });
    await script.ready();
    process.kill(pidIn(dir, "supervisor"), "SIGKILL");
    assert.equal((await script.end()).status, 1);
    assert.match(script.output, /the program ended by itself/);
    await nothingLeft(dir);
  });

  it("listens on IPv6 and on all addresses", async (t) => {
    for (const [listen, address] of [["0.0.0.0", "127.0.0.1"], ["::1", "[::1]"]]) {
      if (listen === "::1" && !existsSync("/proc/net/if_inet6")) {
        t.diagnostic("no IPv6 here");
        continue;
      }
      const port = await freePort();
      const script = start({ PORT: port, DIR: newDir(), LISTEN: listen });
      assert.equal(await script.ready(), `http://${address}:${port}/`);
      assert.equal(await page(`http://${address}:${port}/`), 200);
    }
  });
});

it("the includes are valid in a site's own configuration", () => {
  const dir = join(base, "site");
  mkdirSync(dir);
  for (const name of ["http", "server", "params"]) copyFileSync(join(tree, `nginx/seance-${name}.conf`), join(dir, `seance-${name}.conf`));
  writeFileSync(
    join(dir, "nginx.conf"),
    `load_module ${tree}/build/module/ngx_http_seance_module.so;
     pid ${dir}/nginx.pid;
     events {}
     http {
       access_log off;
       client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; fastcgi_temp_path ${dir}/fastcgi;
       uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
       include seance-http.conf;
       limit_req_zone $binary_remote_addr zone=one:1m rate=10r/s;
       server { listen 127.0.0.1:1; deny 192.0.2.1; limit_req zone=one; include seance-server.conf; }
     }`,
  );
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };
  execFileSync("nginx", ["-t", "-q", "-e", join(dir, "error.log"), "-p", dir, "-c", join(dir, "nginx.conf")], { env });
});

describe("one line says", () => {
  it("a taken port", async () => {
    const server = createServer();
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address();
    const dir = newDir();
    try {
      assert.match(await refused({ PORT: port, DIR: dir }), new RegExp(`port ${port} on 127.0.0.1 is taken`));
      assert.ok(!existsSync(dir), "nothing is left behind");
    } finally {
      server.close();
    }
  });

  it("a folder in use", async () => {
    const dir = newDir();
    const first = start({ PORT: await freePort(), DIR: dir });
    const url = await first.ready();
    const started = pids(dir);
    const second = start({ PORT: await freePort(), DIR: dir });
    assert.equal((await second.end()).status, 1);
    assert.match(second.output, /^run: DIR=.* is in use by another make run\n$/);
    assert.deepEqual(pids(dir), started);
    assert.equal(await page(url), 200);
  });

  it("a socket path that is too long", async () => {
    const dir = join(base, "x".repeat(107 - base.length - 1 - "/internal.sock".length + 1));
    assert.match(await refused({ PORT: await freePort(), DIR: dir }), /the path of a socket has 108 bytes/);
    assert.ok(!existsSync(dir));
  });

  it("the longest path that is possible is no failure", async () => {
    const dir = join(base, "y".repeat(107 - base.length - 1 - "/internal.sock".length));
    await start({ PORT: await freePort(), DIR: dir }).ready();
  });

  it("a path with a space is no failure", async () => {
    const dir = join(base, "a b");
    await start({ PORT: await freePort(), DIR: dir }).ready();
  });

  it("an unwritable DIR", async () => {
    const file = join(base, "file");
    writeFileSync(file, "");
    assert.match(await refused({ PORT: await freePort(), DIR: file }), /is no folder/);
    assert.match(await refused({ PORT: await freePort(), DIR: join(file, "run") }), /cannot be made/);
    assert.match(await refused({ PORT: await freePort(), DIR: "/proc/nowhere/run" }), /cannot be made/);
    if (process.getuid() !== 0) {
      const dir = join(base, "locked");
      mkdirSync(dir);
      chmodSync(dir, 0o500);
      assert.match(await refused({ PORT: await freePort(), DIR: dir }), /is not writable/);
    }
  });

  it("an APP without a program", async () => {
    assert.match(await refused({ PORT: await freePort(), DIR: newDir(), APP: join(base, "none") }), /APP=.* is no folder/);
    assert.match(await refused({ PORT: await freePort(), DIR: newDir(), APP: join(tree, "docs") }), /has no program docs/);
  });

  it("a module for another nginx", async () => {
    // the signature that nginx compares, with one feature less
    const bytes = readFileSync(join(tree, "build/module/ngx_http_seance_module.so"));
    const at = bytes.toString("latin1").search(/\d,\d,\d,[01]{30,}/);
    assert.ok(at > 0);
    bytes[at + 6] ^= 1;
    const file = join(base, "other.so");
    writeFileSync(file, bytes);
    const dir = newDir();
    assert.match(await refused({ PORT: await freePort(), DIR: dir, MODULE: file }), /is built for another nginx/);
    assert.ok(!existsSync(dir));
  });

  it("a setting that makes no sense", async () => {
    assert.match(await refused({ PORT: "80x", DIR: newDir() }), /PORT=80x/);
    assert.match(await refused({ PORT: await freePort(), DIR: newDir(), LISTEN: "a;b" }), /LISTEN=a;b/);
    assert.match(await refused({ PORT: await freePort(), DIR: newDir(), SEANCE_FLAGS: "--no-such-setting=1" }), /the program ended/);
  });
});
