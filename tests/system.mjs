/*
 * system - a whole system for a test: nginx with the module and a program, in a folder and on a port of its own
 *
 *     import { startSystem } from "./system.mjs";
 *     const system = await startSystem({ app: "tests/conformance" });
 *     ... fetch(system.url), new WebSocket(`${system.ws}/socket/websocket?vsn=2.0.0`) ...
 *     await system.killWorker();       // SIGKILL; back when the next worker process is there
 *     await system.restartNginx();     // back when the new nginx answers
 *     await system.stop();             // always, in after(); throws when a sanitizer found something
 *
 * It runs what `make run` runs (scripts/run), without building: `make all` comes first.  Options: app, flags
 * (array or text, for `PROGRAM serve`), env (for scripts/run: NGINX_WORKERS, MODULE, NGINX_PRELOAD, ...), dir (to go on
 * with stored state; it is then not removed by stop), port.
 *
 * With SANITIZE set the program of that build is used.  SEANCE_TEST_KEEP=1 keeps the folders.
 */
import { execFile as execFileCallback, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { patience, until, within } from "./lib/wait.mjs";

export const tree = fileURLToPath(new URL("..", import.meta.url));

/* freePort - a port of 127.0.0.1 that was free just now */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/* temporaryDir - a new folder with a short path (a socket's path has 107 bytes at most) */
export const temporaryDir = () => mkdtempSync(join(tmpdir(), "seance-"));

/* alive - is there such a process, and not as a zombie? */
export function alive(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/* pidIn - the number in dir/name.pid; undefined while there is none */
export function pidIn(dir, name) {
  try {
    return Number(readFileSync(join(dir, `${name}.pid`), "utf8")) || undefined;
  } catch {
    return undefined;
  }
}

/*
 * Script - a started scripts/run or make run: its output and its end
 *
 * It gets SIGTERM when this process ends.
 */
export class Script {
  constructor(command, args, env) {
    this.output = "";
    this.child = spawn("setpriv", ["--pdeathsig", "TERM", command, ...args], {
      cwd: tree,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.output += text));
    }
    this.ended = new Promise((resolve) => {
      this.child.on("error", (error) => resolve({ status: -1, signal: error.message }));
      this.child.on("close", (status, signal) => resolve({ status, signal }));
    });
    this.ended.then((how) => (this.how = how));
  }

  get pid() {
    return this.child.pid;
  }

  /* ready - the address of the page, once it is printed */
  ready(ms = 30000) {
    return until(
      () => {
        if (this.how) return "ended";
        return this.output.match(/ is ready at (http:\/\/\S+)/)?.[1];
      },
      () => `the start, which said so far: ${this.output}`,
      ms,
    ).then((url) => {
      if (url === "ended") throw new Error(`did not start: ${this.output.trim()}`);
      return url;
    });
  }

  /* end - how it ended: {status, signal} */
  end(ms = 30000) {
    return within(this.ended, () => `the end, after: ${this.output}`, ms);
  }
}

const execFile = promisify(execFileCallback);

/* The program of an app's folder, as scripts/run finds it. */
function program(app) {
  const name = app.split("/").at(-1);
  const variant = process.env.SANITIZE ? `build/${process.env.SANITIZE.replaceAll(",", "-")}/app/${app}` : app;
  return join(tree, variant, name);
}

const sanitizerOptions = (dir) => {
  const common = `log_path=${dir}/sanitizer:exitcode=66:print_stacktrace=1`;
  const given = (name) => (process.env[name] ? `:${process.env[name]}` : "");
  return Object.fromEntries(["ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"].map((name) => [name, common + given(name)]));
};

export async function startSystem({ app = "examples/todos", flags = [], env = {}, dir: givenDir, port: givenPort } = {}) {
  const dir = givenDir ?? temporaryDir();
  const port = givenPort ?? (await freePort());
  const script = new Script("scripts/run", [], {
    ...sanitizerOptions(dir),
    PORT: String(port),
    LISTEN: "127.0.0.1",
    APP: app,
    DIR: dir,
    PROGRAM: "",
    SEANCE_FLAGS: Array.isArray(flags) ? flags.join(" ") : flags,
    READY_SECONDS: String(20 * patience),
    ...env,
  });
  const pid = (name) => pidIn(dir, name);
  const system = {
    port,
    dir,
    script,
    url: `http://127.0.0.1:${port}`,
    ws: `ws://127.0.0.1:${port}`,
    supervisorPid: () => pid("supervisor"),
    workerPid: () => pid("worker"),
    nginxPid: () => pid("nginx"),

    /* read - a file of the folder as text: "program.log", "error.log", ... */
    read: (name) => readFileSync(join(dir, name), "utf8"),

    /* broadcast - a message, JSON text, to a PubSub topic by the program's command line */
    broadcast: (topic, message) => execFile(program(app), ["broadcast", topic, message, `--dir=${dir}`]),

    /* counts - what so many nginx workers say of themselves (SIGUSR1), added up; what is 0 is left out */
    async counts(workers = 1) {
      const seen = system.read("program.log").length;
      process.kill(system.supervisorPid(), "SIGUSR1");
      const lines = await until(() => {
        const told = [...system.read("program.log").slice(seen).matchAll(/link of nginx worker [0-9a-f]{16} is up for \d+ s:(.*)\n/g)];
        return told.length >= workers && told;
      }, "the lines");
      const sums = {};
      for (const [, name, value] of lines.map(([line]) => line).join(" ").matchAll(/(\w+)=(\d+)/g)) sums[name] = (sums[name] ?? 0) + Number(value);
      return sums;
    },

    /* killWorker - returns the new worker's pid */
    async killWorker(signal = "SIGKILL") {
      const old = await until(() => pid("worker"), "worker.pid");
      process.kill(old, signal);
      return until(
        () => {
          const now = pid("worker");
          return now !== old && now && alive(now) && now;
        },
        `a worker process after ${old}`,
        10000,
      );
    },

    /* withoutProgram - runs it while the program's socket is not where nginx looks for it, and no connection is kept */
    async withoutProgram(run) {
      const file = join(dir, "program.sock");
      renameSync(file, `${file}.away`);
      try {
        await system.killWorker();
        await run();
      } finally {
        renameSync(`${file}.away`, file);
      }
    },

    /* restartNginx - scripts/run starts nginx again whenever it ends; returns the new nginx's pid */
    async restartNginx(signal = "SIGTERM") {
      const old = await until(() => pid("nginx"), "nginx.pid");
      process.kill(old, signal);
      return until(
        async () => {
          const now = pid("nginx");
          if (!now || now === old || !alive(now)) return false;
          const response = await fetch(system.url, { headers: { connection: "close" } });
          await response.arrayBuffer();
          return response.status < 500 && now;
        },
        `an nginx after ${old}`,
        10000,
      );
    },

    /* findings - what sanitizers wrote */
    findings: () =>
      readdirSync(dir)
        .filter((name) => name.startsWith("sanitizer."))
        .map((name) => readFileSync(join(dir, name), "utf8"))
        .join("\n"),

    /* stop - ends all that was started, and removes the folder unless it was given */
    async stop() {
      if (!script.how) script.child.kill("SIGTERM");
      const how = await script.end(40000);
      const found = system.findings();
      if (!givenDir && !process.env.SEANCE_TEST_KEEP) rmSync(dir, { recursive: true, force: true });
      if (found) throw new Error(`a sanitizer found:\n${found}`);
      if (how.status !== 0) throw new Error(`scripts/run ended with ${how.status ?? how.signal}: ${script.output}`);
    },
  };
  try {
    await script.ready(25000);
  } catch (error) {
    let log = "";
    try {
      log = system.read("program.log");
    } catch {
      // there is none yet
    }
    script.child.kill("SIGTERM");
    await script.end(40000).catch(() => {});
    if (!givenDir) rmSync(dir, { recursive: true, force: true });
    throw new Error(`${error.message}\n${log.slice(-4000)}`);
  }
  return system;
}
